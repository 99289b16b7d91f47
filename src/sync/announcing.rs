//! The machine announces its root.

use super::{
    announcement::Announcement,
    interface::{Action, Context},
    machine::{EARLY, EARLY_PAUSE, GREETING, Machine},
    view::View,
};

impl Machine {
    pub(super) fn announce(&mut self, context: &mut Context<'_>, actions: &mut Vec<Action>) {
        self.early = self.early.saturating_add(1);
        let pause = match self.early - 1 {
            0..EARLY => EARLY_PAUSE.min(self.settings.sync_interval),
            _ => self.settings.sync_interval,
        };
        self.announce_at = context.now + context.about(pause);
        let Some(announcement) = self.own_announcement(context.view, context.wall) else {
            // A root is being made.
            self.announce_at = context.now + GREETING;
            return;
        };
        self.announced = Some((context.now, announcement.span.root));
        self.announced_stand = announcement.stand;
        self.status.announced += 1;
        actions.push(Action::Announce(announcement.encode()));
    }

    /// This replica's announcement when its clock shows `wall`, if it has a root.
    #[must_use]
    pub fn announcement(&self, view: &dyn View, wall: u64) -> Option<Vec<u8>> {
        let announcement = self.own_announcement(view, wall)?;
        Some(announcement.encode())
    }

    pub(super) fn own_announcement(&self, view: &dyn View, wall: u64) -> Option<Announcement> {
        let (span, cells) = view.latest()?;
        let announcement = Announcement {
            fingerprint: self.settings.fingerprint,
            incarnation: self.settings.incarnation,
            clock: wall,
            span,
            cells,
            stand: None,
        };
        Some(Announcement {
            stand: self.own_stand(view, &announcement),
            ..announcement
        })
    }
}
