//! The secret key: from the environment, or a file of the data directory that is made once.

use std::io;
use std::sync::Arc;

use anyhow::Context;
use manager_core::{KeyKeeper, MasterKey, MasterKeys};

use crate::data_dir::DataDir;

const FILE: &str = "secret-key";
/// The key that takes the other's place when the database has changed over to it.
const STAGED: &str = "secret-key.staged";

/// The key that is configured, or the one that is kept; made up at the first start.
pub fn load(configured: Option<&MasterKey>, data: &DataDir) -> anyhow::Result<MasterKeys> {
    if let Some(key) = configured {
        return Ok(MasterKeys { current: key.clone(), staged: None, keeper: None });
    }
    let current = match read(data, FILE)? {
        Some(key) => key,
        None => {
            let key = MasterKey::generate().context("the system has no source of chance")?;
            data.write_private(FILE, &key.to_base64())?;
            key
        }
    };
    let keeper = Arc::new(Files(data.clone()));
    Ok(MasterKeys { current, staged: read(data, STAGED)?, keeper: Some(keeper) })
}

fn read(data: &DataDir, name: &str) -> anyhow::Result<Option<MasterKey>> {
    let text = data.read(name)?.map(zeroize::Zeroizing::new);
    let key = text.map(|text| MasterKey::from_base64(&text)).transpose();
    key.with_context(|| format!("the file {name} of the data directory is damaged"))
}

/// Keeps keys in the data directory, readable by nobody else.
#[derive(Debug)]
struct Files(DataDir);

impl KeyKeeper for Files {
    fn stage(&self, key: &MasterKey) -> io::Result<()> {
        self.0.write_private(STAGED, &key.to_base64()).map_err(io::Error::other)
    }

    fn settle(&self, key: &MasterKey) -> io::Result<()> {
        let is_in =
            |file| read(&self.0, file).map(|kept| kept.as_ref() == Some(key)).map_err(io::Error::other);
        if !is_in(STAGED)? {
            if is_in(FILE)? {
                return Ok(());
            }
            // Somebody has taken it away, and the database needs it.
            self.stage(key)?;
        }
        self.0.rename(STAGED, FILE).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_a_staged_one_takes_its_place_whole() {
        let temp = tempfile::tempdir().unwrap();
        let data = DataDir::open(temp.path()).unwrap();
        let first = load(None, &data).unwrap();
        assert!(load(None, &data).unwrap().current == first.current && first.staged.is_none());
        let new = MasterKey::generate().unwrap();
        let keeper = first.keeper.unwrap();
        keeper.stage(&new).unwrap();
        let between = load(None, &data).unwrap();
        assert!(between.current == first.current && between.staged.as_ref() == Some(&new));
        keeper.settle(&new).unwrap();
        let after = load(None, &data).unwrap();
        assert!(after.current == new && after.staged.is_none());
        // As when it was done, and only an error was heard.
        keeper.settle(&new).unwrap();
        assert!(load(None, &data).unwrap().current == new);
    }

    #[test]
    fn a_staged_key_that_somebody_removed_or_replaced_is_kept_all_the_same() {
        for foreign in [None, Some(MasterKey::generate().unwrap())] {
            let temp = tempfile::tempdir().unwrap();
            let data = DataDir::open(temp.path()).unwrap();
            let keeper = load(None, &data).unwrap().keeper.unwrap();
            let new = MasterKey::generate().unwrap();
            keeper.stage(&new).unwrap();
            data.remove(STAGED).unwrap();
            if let Some(foreign) = foreign {
                keeper.stage(&foreign).unwrap();
            }
            keeper.settle(&new).unwrap();
            let after = load(None, &data).unwrap();
            assert!(after.current == new && after.staged.is_none());
        }
    }

    #[test]
    fn a_configured_key_is_the_key_and_is_written_nowhere() {
        let temp = tempfile::tempdir().unwrap();
        let data = DataDir::open(temp.path()).unwrap();
        let key = MasterKey::generate().unwrap();
        let keys = load(Some(&key), &data).unwrap();
        assert!(keys.current == key && keys.keeper.is_none());
        assert_eq!(data.read(FILE).unwrap(), None);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_a_new_key() {
        let temp = tempfile::tempdir().unwrap();
        let data = DataDir::open(temp.path()).unwrap();
        data.write_private(FILE, "garbage").unwrap();
        assert!(load(None, &data).unwrap_err().to_string().contains("secret-key"));
    }
}
