//! In: a selection. Out: what to watch, asked again every second. Names that are wrong at the start
//! are errors; later only `Found` changes.
use anyhow::{Context, Result, ensure};

use super::pin::Pin;
use super::{Found, Roots, Selection, Skipped, discover};
use crate::cause::taxonomy::Controller;

/// Follows a selection over time.
#[derive(Debug)]
pub struct Finder {
    roots: Roots,
    only: Option<Controller>,
    /// What the user named, outermost cgroups only; empty: discovery.
    pins: Vec<Pin>,
    discovers: bool,
}

/// What a selection names at this moment.
pub fn find(selection: &Selection, roots: &Roots) -> Result<Found> {
    Finder::new(selection, roots.clone())?.find()
}

impl Finder {
    /// Resolves what was named. Processes are followed by their cgroup from here on.
    pub fn new(selection: &Selection, roots: Roots) -> Result<Self> {
        let controller = selection.controller;
        let discovers = selection.pids.is_empty() && selection.cgroups.is_empty();
        ensure!(
            !discovers || controller != Some(Controller::Unknown),
            "an unknown controller cannot be found by itself: name it with --pid or --cgroup"
        );
        let mut pins = Vec::new();
        for pid in &selection.pids {
            pins.push(Pin::process(*pid, controller, &roots)?);
        }
        for path in &selection.cgroups {
            pins.push(Pin::cgroup(path, controller, &roots)?);
        }
        Ok(Self {
            roots,
            only: controller,
            pins: outermost(pins),
            discovers,
        })
    }

    /// What is there now. Fails only when /proc itself cannot be read.
    pub fn find(&mut self) -> Result<Found> {
        if self.discovers {
            return discover::discover(&self.roots, self.only)
                .with_context(|| format!("failed to list {}", self.roots.proc.display()));
        }
        let mut found = Found::default();
        for pin in &mut self.pins {
            match pin.target(&self.roots) {
                Ok(target) => found.targets.push(target),
                Err(reason) => {
                    let controller = pin.controller;
                    found.skipped.push(Skipped {
                        controller,
                        pids: Vec::new(),
                        reason,
                    });
                }
            }
        }
        found.targets.dedup_by(|a, b| a.cgroup == b.cgroup);
        Ok(found)
    }
}

/// Merges what lies below another named cgroup into it: programs on both would count twice.
fn outermost(mut pins: Vec<Pin>) -> Vec<Pin> {
    pins.sort_by(|a, b| a.cgroup.cmp(&b.cgroup));
    let mut merged: Vec<Pin> = Vec::new();
    for pin in pins {
        match merged.last_mut() {
            Some(top) if pin.cgroup.starts_with(&top.cgroup) => {
                if pin.names.is_empty() || top.names.is_empty() {
                    top.names.clear();
                } else {
                    top.names.extend(pin.names);
                }
            }
            _ => merged.push(pin),
        }
    }
    merged
}

#[cfg(test)]
#[path = "finder_tests.rs"]
mod tests;
