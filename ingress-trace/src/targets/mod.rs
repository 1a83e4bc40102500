//! Which cgroups are ingress controllers.
