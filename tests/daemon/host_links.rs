//! A guest of a home: another home whose daemon uses the accounts of the first. In place of ssh, a script runs the command
//! as the host's user would.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::support::{Client, Home, directory, signal, wait_until};

/// What the guest calls the host.
pub const HOST: &str = "owner@host";

/// The way from a guest to its host.
pub struct HostLink {
    directory: tempfile::TempDir,
}

impl HostLink {
    /// To this host. `forced` is run in place of what the guest asks for, as with a forced command of sshd.
    pub fn to(host: &Home, forced: Option<&str>) -> Self {
        let directory = directory();
        let path = directory.path();
        let program = env!("CARGO_BIN_EXE_lessor");
        let command = forced.map_or_else(|| "$*".to_owned(), |words| format!("{program} {words}"));
        let script = format!(
            "#!/bin/sh\n\
             [ -e {place}/cut ] && {{ echo 'the way is cut' >&2; exit 255; }}\n\
             while [ \"$1\" != -- ]; do shift; done\n\
             shift 2\n\
             echo $$ >{place}/pid\n\
             unset LESSOR_CONFIG LESSOR_SOCKET\n\
             LESSOR_HOME={home} exec sh -c \"exec {command}\"\n",
            place = path.display(),
            home = host.path().display(),
        );
        let ssh = path.join("ssh");
        std::fs::write(&ssh, script).unwrap();
        std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory }
    }

    /// A guest whose daemon runs and has the link. Leases outlive the link for this many milliseconds.
    pub fn guest(&self, grace_ms: u64) -> Home {
        let program = env!("CARGO_BIN_EXE_lessor");
        let config = format!("[join]\nhost = \"{HOST}\"\nprogram = \"{program}\"\ngrace = \"{grace_ms}ms\"\n");
        let mut guest = Home::new(&config);
        let mut command = guest.command();
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.directory.path().display()));
        guest.start_as(command);
        wait_until("the link is up", || is_up(&mut guest.client()));
        guest
    }

    /// Ends the link that there is. The guest makes another one.
    pub fn end(&self) {
        let pid = std::fs::read_to_string(self.directory.path().join("pid")).unwrap();
        signal(pid.trim().parse().unwrap(), rustix::process::Signal::KILL);
    }

    /// Ends the link, and lets no other one begin.
    pub fn cut(&self) {
        std::fs::write(self.directory.path().join("cut"), "").unwrap();
        self.end();
    }

    /// Lets links begin again.
    pub fn mend(&self) {
        std::fs::remove_file(self.directory.path().join("cut")).unwrap();
    }
}

/// Whether a guest's link is up.
pub fn is_up(client: &mut Client) -> bool {
    client.call("status", json!({}))["host"]["state"] == "up"
}
