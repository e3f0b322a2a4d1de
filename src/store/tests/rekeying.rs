//! Replacing the key: after a crash at any step, the secrets can still be opened.

use std::sync::mpsc::channel;

use super::*;

impl Home {
    fn key(&self) -> Vec<u8> {
        std::fs::read(&self.paths.key).unwrap()
    }

    fn next(&self) -> PathBuf {
        self.paths.key.with_file_name("key.next")
    }
}

fn rekey(store: &Store) -> Result<Rekeyed, StoreError> {
    let (tell, told) = channel();
    store.rekey(move |outcome| tell.send(outcome).unwrap());
    told.recv_timeout(Duration::from_secs(20)).unwrap()
}

fn is_whole(opened: &OpenedStore, prints: &[(Fingerprint, AccountId, Wall)]) {
    let loaded = &opened.loaded;
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let mut secrets: Vec<&str> = loaded.credentials.iter().map(|(_, credential)| credential.access.expose()).collect();
    secrets.sort_unstable();
    assert_eq!(secrets, ["sk-canary-1", "sk-canary-2"]);
    assert_eq!(loaded.clients, [client("mine")]);
    // known tokens are still recognised
    assert_eq!(loaded.fingerprints, prints);
    let of = loaded.fingerprint_key.of_credential(&loaded.credentials[0].1);
    assert!(prints.iter().any(|(print, _, _)| *print == of));
}

fn filled(home: &Home) -> (OpenedStore, Vec<(Fingerprint, AccountId, Wall)>) {
    let opened = home.open();
    for number in 1..=2 {
        opened.store.done(account(number, &format!("sk-canary-{number}"))).unwrap();
    }
    opened.store.done(Write::SaveClient(client("mine"))).unwrap();
    opened.store.close(true);
    let opened = home.open();
    let prints = opened.loaded.fingerprints.clone();
    assert_eq!(prints.len(), 2);
    (opened, prints)
}

#[test]
fn everything_is_sealed_again_and_the_old_key_opens_nothing() {
    let home = Home::new();
    let (opened, prints) = filled(&home);
    let old = home.key();
    let lease_key = opened.loaded.lease_key;
    let rekeyed = rekey(&opened.store).unwrap();
    assert_eq!((rekeyed.place, rekeyed.accounts), (KeyBackend::File, 2));
    assert_ne!(home.key(), old);
    assert!(!home.next().exists());
    // later writes are sealed with the new key as well
    opened.store.done(account(1, "sk-canary-1")).unwrap();
    opened.store.close(true);
    let opened = home.open();
    is_whole(&opened, &prints);
    assert_eq!(opened.loaded.lease_key, lease_key, "leases can be resumed");
    rekey(&opened.store).unwrap();
    opened.store.close(true);
    is_whole(&home.open(), &prints);
    std::fs::write(&home.paths.key, old).unwrap();
    assert!(home.refusal().contains("does not fit"));
}

#[test]
fn a_crash_between_any_two_steps_loses_nothing() {
    let home = Home::new();
    let (opened, prints) = filled(&home);
    // the new key was prepared, nothing else
    key::put(&home.next(), &key::random().unwrap()).unwrap();
    let crashed = home.crashed();
    is_whole(&crashed.open(), &prints);
    assert!(!crashed.next().exists(), "what was never used is gone");
    // everything was sealed, but the new key is not at its final place
    let old = home.key();
    rekey(&opened.store).unwrap();
    let crashed = home.crashed();
    let new = crashed.key();
    std::fs::rename(&crashed.paths.key, crashed.next()).unwrap();
    key::put(&crashed.paths.key, &key::parse(&old).unwrap()).unwrap();
    is_whole(&crashed.open(), &prints);
    assert_eq!(crashed.key(), new);
    assert!(!crashed.next().exists());
}

#[test]
fn a_failed_change_of_the_key_changes_nothing() {
    let home = Home::new();
    let (opened, prints) = filled(&home);
    // a directory at the new key's path: it cannot be prepared
    std::fs::create_dir(home.next()).unwrap();
    std::fs::write(home.next().join("x"), "").unwrap();
    rekey(&opened.store).unwrap_err();
    std::fs::remove_dir_all(home.next()).unwrap();
    // a secret that cannot be opened is not dropped
    let spoil = "UPDATE credential SET sealed = x'00' WHERE account = (SELECT min(account) FROM credential)";
    opened.store.touch(move |database| assert_eq!(database.execute(spoil, []), Ok(1)));
    let said = rekey(&opened.store).unwrap_err().to_string();
    assert!(said.contains("nothing was changed") && said.contains("cannot be decrypted"), "{said}");
    assert!(!home.next().exists());
    opened.store.close(true);
    assert_eq!(home.open().loaded.credentials.len(), prints.len() - 1);
}
