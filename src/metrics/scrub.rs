//! The metrics of the scrub, which reads all data in the background and compares
//! it with its digests.

use super::openmetrics::Writer;

/// The states of a scrub.
pub const SCRUB_STATES: [&str; 3] = ["off", "running", "paused"];

/// The metrics of a storage's scrub.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScrubMetrics {
    /// Its state: one of [`SCRUB_STATES`]; anything else counts as the first of them.
    pub state: &'static str,
    /// How much of the current pass is done, from 0 to 1.
    pub progress: f64,
    /// Cells checked, in all passes since the storage was opened.
    pub checked_cells: u64,
    /// Cells found damaged.
    pub damaged_cells: u64,
    /// Damaged cells that were rewritten or replaced.
    pub repaired_cells: u64,
    /// When a pass last finished, in seconds since 1970.
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
