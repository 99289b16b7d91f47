//! How what is found is compared with what is expected.

use std::{
    fmt::Debug,
    thread,
    time::{Duration, Instant},
};

use zenoh_mst::Error;

pub type Done = Result<(), Box<dyn std::error::Error + Send + Sync>>;

pub const SHORT: Duration = Duration::from_millis(300);

pub fn same<T: PartialEq<U> + Debug, U: Debug>(found: T, expected: U) -> Done {
    match found == expected {
        true => Ok(()),
        false => Err(format!("found {found:?}, expected {expected:?}").into()),
    }
}

pub fn fails<T: Debug>(result: Result<T, Error>, said: &str) -> Result<Error, String> {
    match result {
        Err(error) if error.to_string().contains(said) => Ok(error),
        other => Err(format!("found {other:?}, expected an error with {said:?}")),
    }
}

/// Waits until it is so.
pub fn until(mut is_so: impl FnMut() -> Result<bool, Error>) -> Done {
    let start = Instant::now();
    while !is_so()? {
        if start.elapsed() > Duration::from_secs(30) {
            return Err("it does not become so".into());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
