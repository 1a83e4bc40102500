//! In: what a request asked for. Out: the route and the Services that it leads to, by the rules of the
//! Ingress and the Gateway API, and whether that is certain: controllers differ, and headers, queries
//! and cut texts are not known here.
use std::cmp::Ordering;
use std::sync::Arc;

use jiff::Timestamp;

use super::Index;
use super::paths::{self, Fit, Pattern};
use super::store::Linked;
use super::timeline::Standing;
use crate::cluster::object::{BackendRef, Kind, Name, Parent, Route, Rule};
use crate::profiles::Serves;
use crate::profiles::serves::Claim;

/// From this length on, the kernel side may have cut the host.
const HOST_CUT: usize = 64;
/// From this length on, the kernel side may have cut the path.
const PATH_CUT: usize = 128;

/// What a request asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Host header, perhaps with a port.
    pub host: Option<&'a str>,
    /// Path without its query.
    pub path: &'a str,
    /// Method, where it is known.
    pub method: Option<&'a str>,
    /// What the controller serves, where its pod is known: other routes are not asked.
    pub serves: Option<&'a Serves>,
}

/// Where a request leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    /// Ingress, HTTPRoute or GRPCRoute.
    pub kind: Kind,
    /// Its name.
    pub route: Name,
    /// Place in its `spec.rules` of the rule that took the request, where no other one can be meant.
    pub rule: Option<usize>,
    /// Services that the rule leads to; none for a redirect.
    pub backends: Vec<BackendRef>,
    /// No rule took it: the default backend of an Ingress.
    pub default: bool,
    /// Whether no other Service can be meant.
    pub certain: bool,
}

impl Routed {
    /// The Service, where there is only one.
    pub fn backend(&self) -> Option<&BackendRef> {
        let first = self.backends.first()?;
        let same = |other: &BackendRef| other.service == first.service;
        self.backends.iter().all(same).then_some(first)
    }
}

/// A route with its expressions compiled.
#[derive(Debug)]
pub struct Compiled {
    /// The route.
    pub route: Route,
    patterns: Vec<Pattern>,
}

impl From<Route> for Compiled {
    fn from(route: Route) -> Self {
        let ingress = route.kind == Kind::Ingress;
        let patterns = route.rules.iter();
        let patterns = patterns.map(|rule| Pattern::of(&rule.path, ingress));
        Self {
            patterns: patterns.collect(),
            route,
        }
    }
}

impl PartialEq for Compiled {
    fn eq(&self, other: &Self) -> bool {
        self.route == other.route
    }
}

impl Compiled {
    /// All Services that it leads to, as often as it does.
    pub fn backends(&self) -> impl Iterator<Item = &BackendRef> {
        let rules = self.route.rules.iter();
        rules
            .flat_map(|rule| &rule.backends)
            .chain(&self.route.default_backend)
    }
}

impl Linked for Compiled {
    type Link = Arc<str>;

    fn links(&self) -> Vec<Arc<str>> {
        let any = || Arc::from("");
        let all = self.route.default_backend.iter().map(|_| any());
        let rules = self.route.rules.iter();
        let hosts = rules.flat_map(|rule| {
            let none = rule.hosts.is_empty().then(any);
            rule.hosts.iter().cloned().chain(none)
        });
        let mut links: Vec<Arc<str>> = all.chain(hosts).collect();
        links.sort_unstable();
        links.dedup();
        links
    }
}

/// A rule, or a default backend, that takes a request.
struct Candidate<'a> {
    route: &'a Route,
    /// None for the default backend.
    rule: Option<(usize, &'a Rule)>,
    /// How exact the host is; 0 is itself.
    host: usize,
    fit: Fit,
    /// It may take the request, or not: not all that it asks for is known.
    doubtful: bool,
}

/// A rule: kind and name of its route, and its place in there.
type Place<'a> = (Kind, &'a Name, Option<usize>);

impl<'a> Candidate<'a> {
    fn backends(&self) -> &[BackendRef] {
        self.rule.map_or_else(
            || self.route.default_backend.as_slice(),
            |(_, rule)| &rule.backends,
        )
    }

    /// Precedence over others: what is smaller takes the request.
    fn rank(&self, other: &Self) -> Ordering {
        self.grade(other).then_with(|| {
            let place = |it: &Self| it.rule.map(|(place, _)| place);
            let age = |it: &Self| (it.route.created.is_none(), it.route.created);
            age(self)
                .cmp(&age(other))
                .then_with(|| self.route.name.cmp(&other.route.name))
                .then_with(|| self.route.kind.cmp(&other.route.kind))
                .then_with(|| place(self).cmp(&place(other)))
        })
    }

    /// The Services that it leads to.
    fn services(&self) -> Vec<Name> {
        let backends = self.backends().iter();
        let mut services: Vec<Name> = backends.map(|backend| backend.service.clone()).collect();
        services.sort_unstable();
        services.dedup();
        services
    }

    /// The rule as its route has it; none for the default backend.
    fn place(&self) -> Place<'a> {
        let index = self.rule.map(|(_, rule)| rule.index);
        (self.route.kind, &self.route.name, index)
    }

    /// Whether nothing but names decides between two Ingresses: then controllers differ.
    fn ties(&self, other: &Self) -> bool {
        let ingress = self.route.kind == Kind::Ingress;
        ingress && self.grade(other).is_eq() && self.route.created == other.route.created
    }

    /// Whether they belong to different listeners of a Gateway: one alone was asked.
    fn elsewhere(&self, other: &Self) -> bool {
        let (own, others) = (&self.route.parents, &other.route.parents);
        let apart = |one: &Parent| {
            one.section.is_some()
                && others.iter().all(|other| {
                    let named = other.section.is_some();
                    named && (other.gateway != one.gateway || other.section != one.section)
                })
        };
        !own.is_empty() && !others.is_empty() && own.iter().all(apart)
    }

    /// Precedence by what they ask for alone.
    fn grade(&self, other: &Self) -> Ordering {
        let asks = |it: &Self| {
            it.rule
                .map(|(_, rule)| (rule.method.is_none(), !rule.conditional))
        };
        let default = |it: &Self| it.rule.is_none();
        (default(self), self.host, self.fit, asks(self)).cmp(&(
            default(other),
            other.host,
            other.fit,
            asks(other),
        ))
    }
}

/// Whose rules are one data plane's, as far as is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Group<'a> {
    /// This one's.
    Own,
    /// Those that serve this class, or Ingresses without one.
    Class(Option<&'a str>),
    /// That of this Gateway, or of a set of listeners.
    Gateway(Option<&'a Name>),
}

/// What the routes of one group make of a request.
#[derive(Default)]
struct Choice<'a> {
    taken: Vec<Candidate<'a>>,
    /// The most exact host that any rule has, whatever its path.
    host: Option<usize>,
    /// A rule for this host could not be read.
    unreadable: bool,
}

impl Index {
    /// Where a request led to at a time; none when no route takes it.
    pub fn route(&self, asked: &Asked, at: Timestamp) -> Option<Routed> {
        let host = paths::host(asked.host.unwrap_or_default());
        let names = paths::names(&host);
        let mut choices: Vec<(Group, Choice)> = Vec::new();
        for (exact, name) in names.iter().enumerate() {
            let routes = self.routes.iter();
            for (_, timeline) in routes.flat_map(|routes| routes.linked(name.as_str())) {
                let Some((compiled, standing)) = timeline.at(at) else {
                    continue;
                };
                if matches!(standing, Standing::Gone(_)) {
                    continue;
                }
                let later = standing != Standing::Held;
                for group in self.groups(&compiled.route, asked.serves, at) {
                    let choice = choice(&mut choices, group);
                    choice.rules(compiled, asked, (&host, exact, name), later);
                    if name.is_empty() {
                        choice.fall_back(&compiled.route, &names, later);
                    }
                }
            }
        }
        let cut = host.len() >= HOST_CUT || asked.path.len() >= PATH_CUT;
        choose(choices.into_iter().map(|(_, choice)| choice), cut)
    }

    /// Which data planes may serve a route, if the one that was asked may.
    fn groups<'a>(
        &self,
        route: &'a Route,
        serves: Option<&Serves>,
        at: Timestamp,
    ) -> Vec<Group<'a>> {
        let ingress = route.kind == Kind::Ingress;
        let class = route.class.as_deref();
        let own = serves.and_then(|serves| {
            if !ingress {
                return serves.attached(&route.parents);
            }
            serves.ingress(&Claim {
                class,
                controller: class.and_then(|class| self.controller(class, at)),
                annotation: route.annotation.as_deref(),
            })
        });
        match own {
            Some(true) => vec![Group::Own],
            Some(false) => Vec::new(),
            None if ingress => vec![Group::Class(class.or(route.annotation.as_deref()))],
            None if route.parents.is_empty() => vec![Group::Gateway(None)],
            None => {
                let gateways = route.parents.iter().map(|parent| parent.gateway.as_ref());
                let mut gateways: Vec<_> = gateways.collect();
                gateways.sort_unstable();
                gateways.dedup();
                gateways.into_iter().map(Group::Gateway).collect()
            }
        }
    }

    /// `spec.controller` of a class at a time.
    fn controller(&self, class: &str, at: Timestamp) -> Option<&str> {
        let (class, standing) = self.classes.get(&Name::new("", class))?.at(at)?;
        (standing == Standing::Held).then_some(&*class.controller)
    }
}

fn choice<'a, 'b>(
    choices: &'b mut Vec<(Group<'a>, Choice<'a>)>,
    group: Group<'a>,
) -> &'b mut Choice<'a> {
    let known = choices.iter().position(|(known, _)| *known == group);
    let place = known.unwrap_or_else(|| {
        choices.push((group, Choice::default()));
        choices.len() - 1
    });
    &mut choices[place].1
}

impl<'a> Choice<'a> {
    /// Takes the rules of a route that has a host of the request's.
    fn rules(
        &mut self,
        compiled: &'a Compiled,
        asked: &Asked,
        (host, exact, name): (&str, usize, &str),
        later: bool,
    ) {
        let route = &compiled.route;
        let ingress = route.kind == Kind::Ingress;
        let deep = ingress && name.starts_with('*') && !paths::one_label(name, host);
        let takes_deep = asked.serves.and_then(|serves| serves.deep);
        if deep && takes_deep == Some(false) {
            return;
        }
        let unsure_host = deep && takes_deep.is_none();
        let rules = route.rules.iter().zip(&compiled.patterns).enumerate();
        for (place, (rule, pattern)) in rules {
            let hosts = &rule.hosts;
            let any = hosts.is_empty() && name.is_empty();
            let takes = any || hosts.iter().any(|host| **host == *name);
            // What fails was not redirected, as on the other listener.
            if !takes || route.redirects(rule) {
                continue;
            }
            self.host = Some(self.host.map_or(exact, |known| known.min(exact)));
            self.unreadable |= matches!(pattern, Pattern::Unreadable);
            let method = rule.method.as_deref();
            if method.is_some_and(|method| asked.method.is_some_and(|asked| asked != method)) {
                continue;
            }
            if let Some(fit) = pattern.fit(&rule.path, asked.path) {
                let unsure = method.is_some() && asked.method.is_none();
                let expression = !ingress && fit.by_expression();
                self.taken.push(Candidate {
                    route,
                    rule: Some((place, rule)),
                    host: exact,
                    fit,
                    doubtful: rule.conditional || unsure || unsure_host || expression || later,
                });
            }
        }
    }

    /// Takes the default backend of a route.
    fn fall_back(&mut self, route: &'a Route, names: &[String], later: bool) {
        if route.default_backend.is_none() {
            return;
        }
        let has = |name: &str| {
            let mut hosts = route.rules.iter().flat_map(|rule| &rule.hosts);
            hosts.any(|host| **host == *name)
        };
        let exact = names.iter().position(|name| has(name));
        self.taken.push(Candidate {
            route,
            rule: None,
            host: exact.unwrap_or(names.len()),
            fit: Fit::NONE,
            doubtful: later,
        });
    }

    /// The candidate that takes the request, after those that may take it instead; and whether there
    /// is nothing else to doubt.
    fn settle(mut self) -> (Vec<Candidate<'a>>, bool) {
        self.taken.sort_by(Candidate::rank);
        let winner = self.taken.iter().position(|it| !it.doubtful);
        let Some(place) = winner else {
            self.taken.reverse();
            return (self.taken, false);
        };
        let mut rest = self.taken.split_off(place + 1);
        let won = &self.taken[place];
        // Controllers differ in whether a less exact host's rules are asked at all.
        let fell_back = self.host.is_some_and(|host| host < won.host);
        rest.retain(|other| {
            let expression = other.fit.by_expression() && other.route.kind != Kind::Ingress;
            expression && other.host == won.host || won.ties(other) || won.elsewhere(other)
        });
        let sure = !fell_back && !self.unreadable;
        rest.append(&mut self.taken);
        (rest, sure)
    }
}

/// Of what each class makes of it, the best; certain where all lead to the same Service.
fn choose<'a>(choices: impl Iterator<Item = Choice<'a>>, cut: bool) -> Option<Routed> {
    let mut certain = !cut;
    let mut winner: Option<Candidate> = None;
    let (mut meant, mut places) = (Vec::new(), Vec::new());
    for choice in choices.filter(|choice| choice.host.is_some() || !choice.taken.is_empty()) {
        let (mut candidates, sure) = choice.settle();
        certain &= sure;
        meant.extend(candidates.iter().map(Candidate::services));
        places.extend(candidates.iter().map(Candidate::place));
        let Some(best) = candidates.pop() else {
            continue;
        };
        if winner.as_ref().is_none_or(|won| best.rank(won).is_lt()) {
            winner = Some(best);
        }
    }
    let winner = winner?;
    let (services, place) = (winner.services(), winner.place());
    let only = places.iter().all(|other| *other == place);
    certain &= services.len() <= 1 && meant.iter().all(|other| *other == services);
    Some(Routed {
        kind: winner.route.kind,
        route: winner.route.name.clone(),
        rule: place.2.filter(|_| only),
        backends: winner.backends().to_vec(),
        default: winner.rule.is_none(),
        certain,
    })
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
