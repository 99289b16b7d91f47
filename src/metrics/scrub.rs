//! The metrics of the scrub, which reads all data in the background and compares
//! it with its digests.

use super::openmetrics::Writer;

/// What a scrub can be at.
pub const SCRUB_STATES: [&str; 3] = ["off", "running", "paused"];

/// What there is to say of the scrub of a storage.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScrubMetrics {
    /// What it is at: one of [`SCRUB_STATES`]; anything else counts as the first
    /// of them.
    pub state: &'static str,
    /// How much of the present pass is done, from 0 to 1.
    pub progress: f64,
    /// Cells that were read, in all passes since the storage was opened.
    pub checked_cells: u64,
    /// Cells that were found damaged.
    pub damaged_cells: u64,
    /// Cells that were replaced by what another replica has.
    pub repaired_cells: u64,
    /// When a pass last came to its end, in seconds since 1970.
    pub last_completed: Option<f64>,
}

impl ScrubMetrics {
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.state(
            "zenoh_mst_scrub_state",
            "What the scrub is at.",
            &SCRUB_STATES,
            self.state,
        );
        writer.gauge(
            "zenoh_mst_scrub_progress_ratio",
            "How much of the present pass of the scrub is done.",
            self.progress,
        );
        writer.counter(
            "zenoh_mst_scrub_checked_cells",
            "Cells that the scrub has read.",
            self.checked_cells,
        );
        writer.counter(
            "zenoh_mst_scrub_damaged_cells",
            "Cells that the scrub has found damaged.",
            self.damaged_cells,
        );
        writer.counter(
            "zenoh_mst_scrub_repaired_cells",
            "Damaged cells that were replaced by what another replica has.",
            self.repaired_cells,
        );
        if let Some(time) = self.last_completed {
            writer.gauge(
                "zenoh_mst_scrub_last_completed_timestamp_seconds",
                "When the scrub last came to the end of a pass.",
                time,
            );
        }
    }
}
