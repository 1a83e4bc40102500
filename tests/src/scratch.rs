//! A folder for a test's files outside of any bed, gone when its owner is dropped.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::bed;

/// The folder.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it; named so that a later bed sweeps it where its owner could not.
    pub fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(bed::tag());
        fs::create_dir_all(&folder).context("failed to create scratch folder")?;
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What fails is swept by the next bed.
        let _ = fs::remove_dir_all(&self.0);
    }
}
