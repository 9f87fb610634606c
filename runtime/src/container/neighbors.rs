//! Other containers of the same store that live in the same cgroups.

use std::path::PathBuf;

use anyhow::{Context, Result};
use interface::id::Id;

use super::saved::SavedInit;
use super::store::{Container, Store};

impl Container {
    /// Whether another container of the same store is known to live in one of these cgroups, or is being made there. One that
    /// lives in a group below is not told from what this one's program has made; those of other stores are not known.
    ///
    /// # Errors
    /// The store can't be read; it can't be told whether another runs.
    pub fn has_neighbor_in(&self, cgroups: &[PathBuf]) -> Result<bool> {
        let store = Store::new(self.path().parent().context("has no directory above")?.to_owned());
        for id in store.ids()?.iter().filter(|id| **id != self.id) {
            if lives_in(&store, id, cgroups)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn lives_in(store: &Store, id: &Id, cgroups: &[PathBuf]) -> Result<bool> {
    // One that can't be opened or read is not known to live anywhere, and must not keep this one from being ended.
    let Ok(Some(other)) = store.find(id) else { return Ok(false) };
    let Ok(Some(record)) = other.read_record() else { return Ok(false) };
    if !record.cgroups.iter().any(|dir| cgroups.contains(dir)) {
        return Ok(false);
    }
    // Asked first: it is given back once there is an init on file.
    let is_held = other.is_held()?;
    match other.saved_init() {
        Ok(SavedInit::Whole(init)) => Ok(init.alive()?.is_some()),
        Ok(SavedInit::CutShort) => Ok(is_held),
        // As above.
        Ok(SavedInit::Damaged) | Err(_) => Ok(false),
    }
}
