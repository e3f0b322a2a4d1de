//! A limit to how long something takes that is mostly there at once.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{error::Elapsed, timeout};

/// Waits for `future` for at most `most`. No timer is made if it is ready at once.
///
/// # Errors
/// When it took longer.
pub(in crate::gateway) async fn in_time<F: Future>(
    most: Duration,
    mut future: Pin<&mut F>,
) -> Result<F::Output, Elapsed> {
    match poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => timeout(most, future).await,
    }
}
