//! In: the settings of data planes, and what a fix is about. Out: the commands that make them, else the same
//! in words; how a controller gets more connections, and TLS to its backends.
use super::kubectl::Kubectl;
use super::rows::{At, CONNECTIONS, Row, SPEAK_TLS, Value};
use super::subject::{Subject, Thing};
use crate::cause::taxonomy::Controller;

/// One setting: where, its name, its value, and whether that is a list.
pub(super) struct Setting {
    at: At,
    key: &'static str,
    value: String,
    list: bool,
}

impl Setting {
    /// That of this data plane in a table; times in seconds.
    pub(super) fn of(rows: &[Row], seconds: Option<u64>, subject: &Subject) -> Option<Self> {
        let of = |row: &&Row| subject.packaging == Some(row.0);
        let (_, at, key, value) = *rows.iter().find(of)?;
        let list = matches!(value, Value::ServiceName | Value::ServicePort);
        let value = match value {
            Value::Seconds => seconds?.to_string(),
            Value::Suffixed => format!("{}s", seconds?),
            Value::Millis => seconds?.saturating_mul(1000).to_string(),
            Value::Word(word) => word.to_owned(),
            Value::ServiceName => subject.service.as_ref()?.name.clone(),
            Value::ServicePort => subject.service_port.clone()?,
        };
        Some(Self {
            at,
            key,
            value,
            list,
        })
    }

    /// The command that makes it, where its object is known.
    pub(super) fn command(&self, subject: &Subject) -> Option<String> {
        let route = subject.route.as_ref();
        match self.at {
            At::Ingress => Some(self.annotate(route.filter(|route| route.kind == "ingress")?)),
            At::Service => Some(self.annotate(subject.service.as_ref()?)),
            At::ConfigMap => {
                let map = subject.settings.as_ref()?;
                let patch = format!(r#"{{"data":{{"{}":"{}"}}}}"#, self.key, self.value);
                let line = Kubectl::within(&map.namespace);
                Some(line.patch("configmap", &map.name, "merge", &patch))
            }
        }
    }

    fn annotate(&self, thing: &Thing) -> String {
        let mut line = Kubectl::within(&thing.namespace).word("annotate");
        // Without it kubectl refuses where there is a list already: it is to be added to by hand.
        if !self.list {
            line = line.word("--overwrite");
        }
        line.word(&thing.kind)
            .value(&thing.name)
            .pair(self.key, &self.value)
            .line()
    }

    /// The command, else the same in words; for a route that is no Ingress, nothing that an Ingress has.
    pub(super) fn advice(&self, subject: &Subject) -> Option<String> {
        let route = subject.route.as_ref();
        let elsewhere = route.is_some_and(|route| route.kind != "ingress");
        let whose = match self.at {
            At::Ingress if elsewhere => return None,
            At::Ingress => "the Ingress",
            At::Service => "the Service",
            At::ConfigMap => "the controller's ConfigMap",
        };
        let words = || format!("set {} of {whose} to {}", self.key, self.value);
        Some(self.command(subject).unwrap_or_else(words))
    }
}

/// More connections and descriptors for the controller's workers, where it ran out of them.
pub(super) fn connections(subject: &Subject) -> Vec<String> {
    let of = |row: &&(&str, [&str; 2])| subject.packaging == Some(row.0);
    let keys = CONNECTIONS.iter().find(of).map(|(_, keys)| *keys);
    let values = [subject.connections.clone(), subject.files.clone()];
    let known = keys.into_iter().flatten().zip(values);
    let settings = known.filter_map(|(key, value)| {
        let at = At::ConfigMap;
        let setting = value.map(|value| Setting {
            at,
            key,
            value,
            list: false,
        });
        setting?.advice(subject)
    });
    let mut found: Vec<String> = settings.collect();
    if found.is_empty() {
        found.extend(connections_words(subject).map(ToOwned::to_owned));
    }
    if found.is_empty()
        && subject.connections.is_some()
        && subject.controller == Some(Controller::Nginx)
    {
        found.push("raise `worker_connections` of nginx".to_owned());
    }
    // A process without rights raises its limit up to the hard one only, which the runtime gives.
    if subject.files.is_some() || found.is_empty() {
        found.push(
            "raise the limit of open files that the node's container runtime gives (LimitNOFILE of \
             its service), then restart the pod: Kubernetes has no field for it"
                .to_owned(),
        );
    }
    found
}

fn connections_words(subject: &Subject) -> Option<&'static str> {
    Some(match subject.packaging? {
        // docs.haproxy.org, ulimit-n: worked out from maxconn.
        "HAProxy Kubernetes Ingress Controller" => {
            "raise maxconn of the controller's ConfigMap: HAProxy takes its descriptors from it"
        }
        "HAProxy Ingress" => {
            "raise max-connections of the controller's ConfigMap: HAProxy takes its descriptors from it"
        }
        // openshift-docs, Ingress Controller configuration parameters.
        "OpenShift router" => "raise spec.tuningOptions.maxConnections of the IngressController",
        // developer.konghq.com/gateway/configuration.
        "Kong" => {
            "raise KONG_NGINX_MAIN_WORKER_RLIMIT_NOFILE and KONG_NGINX_EVENTS_WORKER_CONNECTIONS of the \
             proxy"
        }
        // apache/apisix, conf/config.yaml.example.
        "APISIX" => {
            "raise nginx_config.worker_rlimit_nofile and nginx_config.event.worker_connections of \
             config.yaml"
        }
        _ => return None,
    })
}

/// That TLS is to be spoken to the backend.
pub(super) fn speak_tls(subject: &Subject) -> Vec<String> {
    let setting = Setting::of(&SPEAK_TLS, None, subject);
    let setting = setting.filter(|_| subject.packaging != Some("Traefik") || !gateway(subject));
    let Some(advice) = setting.as_ref().and_then(|one| one.advice(subject)) else {
        return vec![speak_tls_words(subject).to_owned()];
    };
    let note = setting.and_then(|one| {
        if one.list {
            return Some("where it is there already, add to its list, by commas");
        }
        let all = "it holds for all Services of the Ingress: give those that speak plaintext one of their own";
        (one.at == At::Ingress).then_some(all)
    });
    let note = note.map(ToOwned::to_owned);
    std::iter::once(advice).chain(note).collect()
}

/// Whether the route is one of the Gateway API.
fn gateway(subject: &Subject) -> bool {
    let route = subject.route.as_ref();
    route.is_some_and(|route| route.kind != "ingress")
}

fn speak_tls_words(subject: &Subject) -> &'static str {
    match subject.packaging.unwrap_or_default() {
        // docs.nginx.com/nginx-gateway-fabric, gateway.envoyproxy.io: gateway.networking.k8s.io/v1.
        "NGINX Gateway Fabric" | "Envoy Gateway" => {
            "have the controller speak TLS to this backend: a BackendTLSPolicy for the Service"
        }
        // istio.io, destination-rule: ClientTLSSettings.
        "Istio gateway" => {
            "have the controller speak TLS to this backend: trafficPolicy.tls.mode SIMPLE of a \
             DestinationRule"
        }
        // openshift-docs, creating a route through an Ingress object.
        "OpenShift router" => {
            "have the controller speak TLS to this backend: route.openshift.io/termination=reencrypt on \
             the Ingress, with its CA in route.openshift.io/destination-ca-certificate-secret"
        }
        _ => "have the controller speak TLS to this backend",
    }
}
