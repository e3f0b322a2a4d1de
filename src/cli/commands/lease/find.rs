//! The lease that an argument names: by its id, or by the beginning of it.

use clap::Args;

use crate::cli::error::CliError;
use crate::client::{Client, ClientError};
use crate::protocol::{ErrorKind, LeaseRef};

/// The least letters that may stand for an id: its prefix and some more.
const MIN_PREFIX: usize = 6;

/// A lease, for `release`, `renew` and `report`.
#[derive(Debug, Args)]
pub(crate) struct LeaseArg {
    /// The lease: its id, or the beginning of it as `leases` shows it
    pub(super) lease: String,
    /// Fail unless the lease has this fencing token
    #[arg(long, value_name = "N")]
    pub(super) fence: Option<u64>,
}

/// Makes a call with the id as given; if the daemon does not know it, with the only lease whose id begins with it.
pub(super) fn with_lease<T>(
    client: &mut Client,
    lease: &LeaseArg,
    call: impl Fn(&mut Client, LeaseRef) -> Result<T, ClientError>,
) -> Result<T, CliError> {
    let reference = |id: &str| LeaseRef { lease: id.to_owned(), fence: lease.fence };
    let unknown = match call(client, reference(&lease.lease)) {
        Err(error) if error.kind() == Some(&ErrorKind::UnknownLease) => error,
        result => return Ok(result?),
    };
    let leases = client.leases()?;
    let prefix = lease.lease.trim_end_matches('…');
    let mut found = leases.iter().filter(|row| prefix.len() >= MIN_PREFIX && row.lease.starts_with(prefix));
    match (found.next(), found.next()) {
        (Some(row), None) => Ok(call(client, reference(&row.lease))?),
        (Some(_), Some(_)) => {
            Err(CliError::new(ErrorKind::UnknownLease, format!("several leases begin with {prefix}"))
                .hint("see: lessor leases"))
        }
        (None, _) => Err(unknown.into()),
    }
}
