//! What each action does. A step that breaks an invariant says which.

use zenoh_backend_mst::collection::{
    adoption::Decision,
    catching::{Approach, Bounds as Judged, Fate, OwnCell},
    lineage::Lineage,
};

use crate::{
    content::{Content, NEVER, Ops, below, counted, each, earliest, is_tombstone, time},
    decide::{adoption, is_promised, line, meeting, names, standing},
    world::{Action, Announcement, Answer, Bounds, Bug, Durable, REPLICAS, Seen, World, root},
};

/// What came of an action: nothing, or another world, or a broken invariant.
pub type Step = Result<Option<World>, &'static str>;

/// Does `action`; nothing if it cannot happen, or changes nothing.
pub fn step(world: &World, action: Action, bounds: &Bounds) -> Step {
    let mut next = world.clone();
    let happened = match action {
        Action::Client(i, op) => next.client(i, op, bounds),
        Action::Settle(i) => next.settle(i, bounds),
        Action::Raise(i) => next.raise(i, bounds),
        Action::Announce(i) => next.announce(i, bounds),
        Action::Hear(i, j) => next.hear(i, j, bounds),
        Action::Sync(i, j) => next.ask(i, j, bounds) && next.answer(i, bounds),
        Action::Ask(i, j) => next.ask(i, j, bounds),
        Action::Answer(i) => next.answer(i, bounds),
        Action::Adopt(i, silent) => next.adopt(i, silent, bounds)?,
        Action::CatchUp(i, j) => next.catch_up(i, j, false, bounds),
        Action::Crash(i) => next.crash(i),
        Action::Save(i) => next.save(i),
        Action::Restore(i) => next.restore(i),
        Action::Forget(i, j) => next.forget(i, j),
        Action::JoinByHand(i, j) => next.left.joins > 0 && next.catch_up(i, j, true, bounds),
        Action::Begin(i, j) => next.begin(i, j),
    };
    if happened {
        next.simplify(bounds);
    }
    Ok((happened && next != *world).then_some(next))
}

impl World {
    /// Forgets what makes no difference within the bounds.
    fn simplify(&mut self, bounds: &Bounds) {
        for replica in &mut self.replicas {
            if bounds.top == 3 {
                // Whoever has announced the only floor there is has nothing below it on its way.
                replica.told = 0;
            }
            if bounds.budget.lapses == 0 {
                // Without lapses nobody that has the same horizon as the other lets go of anything.
                replica.durable.known = [(0, 0); REPLICAS];
            }
        }
    }

    fn client(&mut self, i: usize, op: usize, bounds: &Bounds) -> bool {
        let replica = &mut self.replicas[i];
        let durable = &mut replica.durable;
        let is_late = time(op) < durable.floor && bounds.bug != Some(Bug::NoFence);
        if is_late || durable.is_fresh || durable.accepted >> op & 1 == 1 {
            return false;
        }
        durable.accepted |= 1 << op;
        durable.queue |= 1 << op;
        replica.lower_known(time(op), bounds.bug);
        if !bounds.queues {
            self.settle(i, bounds);
        }
        true
    }

    fn settle(&mut self, i: usize, bounds: &Bounds) -> bool {
        let queue = std::mem::take(&mut self.replicas[i].durable.queue);
        self.join(i, &Content::of(queue), queue, bounds);
        queue != 0
    }

    /// Joins into the tree what came from a client or another replica.
    fn join(&mut self, i: usize, new: &Content, ghost: Ops, bounds: &Bounds) {
        let replica = &mut self.replicas[i];
        let old = replica.durable.tree;
        let nested = bounds.bug == Some(Bug::NestedCellsKept);
        let tree = old.join(new, nested);
        let gained = earliest(tree.cells & !old.cells);
        let rebased = if tree.base == old.base { NEVER } else { 1 };
        replica.durable.ghost |= ghost;
        if tree != old {
            replica.durable.tree = tree;
            replica.joined(gained.min(rebased), bounds.bug);
            replica.lower_known(gained.min(rebased), bounds.bug);
            replica.made_root();
        }
    }

    fn raise(&mut self, i: usize, bounds: &Bounds) -> bool {
        let replica = &mut self.replicas[i];
        let floor = if replica.durable.floor < 3 { 3 } else { 5 };
        if floor > bounds.top || replica.durable.is_fresh {
            return false;
        }
        replica.durable.floor = floor;
        if bounds.bug != Some(Bug::FloorNotSynced) {
            replica.synced_floor = floor;
        }
        true
    }

    fn announcement(&self, i: usize, bounds: &Bounds) -> Announcement {
        let replica = &self.replicas[i];
        let durable = &replica.durable;
        Announcement {
            name: durable.name,
            life: replica.life,
            root: root(&durable.tree),
            floor: replica.announceable(bounds.bug),
            horizon: durable.horizon,
            line: durable.line,
            flagged: durable.is_fresh,
        }
    }

    fn announce(&mut self, i: usize, bounds: &Bounds) -> bool {
        let announcement = self.announcement(i, bounds);
        if self.left.announcements == 0 || self.announced[i] == Some(announcement) {
            return false;
        }
        self.left.announcements -= 1;
        self.replicas[i].told = announcement.floor;
        self.announced[i] = Some(announcement);
        true
    }

    /// Replica `i` hears what `j` announced: at once, or whenever.
    fn hear(&mut self, i: usize, j: usize, bounds: &Bounds) -> bool {
        let heard = match bounds.late {
            true => self.announced[j],
            false => {
                let announcement = self.announcement(j, bounds);
                self.replicas[j].told = announcement.floor;
                Some(announcement)
            }
        };
        let Some(heard) = heard else {
            return false;
        };
        let own = &mut self.replicas[i];
        let known = &mut own.seen[j];
        if bounds.bug != Some(Bug::OldLifeIsEvidence) {
            if known.life > heard.life {
                return false;
            }
            if known.life < heard.life {
                let life = heard.life;
                *known = Seen {
                    life,
                    ..Seen::default()
                };
            }
        }
        let ours = standing(own.durable.horizon, &own.durable.line, bounds.bug);
        let theirs = standing(heard.horizon, &heard.line, bounds.bug);
        let past = own.past.iter().find(|past| past.root == heard.root);
        if let Some(past) = past.filter(|_| ours.admits(&theirs) && !heard.flagged) {
            let seen = Seen {
                floor: heard.floor,
                since: past.since,
                evicted: past.evicted,
                life: heard.life,
                name: heard.name,
            };
            let reach = |seen: &Seen| {
                (
                    seen.floor.min(seen.since),
                    seen.evicted.count_ones(),
                    seen.since,
                )
            };
            if seen.floor > 0 && (reach(&seen) > reach(known) || seen.name != known.name) {
                *known = seen;
            }
            let all_in = past.since.min(earliest(own.durable.queue));
            own.durable.known[j] = (all_in, heard.life);
        }
        true
    }

    /// Replica `j` answers a pull of `i`; the answer is on its way.
    fn ask(&mut self, i: usize, j: usize, bounds: &Bounds) -> bool {
        let (own, other) = (&self.replicas[i].durable, &self.replicas[j].durable);
        let ours = standing(own.horizon, &own.line, bounds.bug);
        let is_let_in = standing(other.horizon, &other.line, bounds.bug).admits(&ours);
        let has_joined = own.tree.joins >> own.name & 1 == 1;
        if !is_let_in || !has_joined || other.is_fresh || self.replicas[i].answer.is_some() {
            return false;
        }
        let (from, known) = (other.name, self.replicas[j].life);
        let floor = other.floor;
        let answer = Answer {
            horizon: own.horizon,
            line: own.line,
            tree: other.tree,
            ghost: other.ghost,
        };
        self.replicas[i].answer = Some(answer);
        if bounds.bug == Some(Bug::PullIsEvidence) && floor > 0 {
            self.replicas[i].seen[j] = Seen {
                floor,
                since: NEVER,
                evicted: answer.tree.evicted(),
                life: known,
                name: from,
            };
        }
        true
    }

    fn answer(&mut self, i: usize, bounds: &Bounds) -> bool {
        let Some(answer) = self.replicas[i].answer.take() else {
            return false;
        };
        let own = &self.replicas[i].durable;
        let asked = standing(answer.horizon, &answer.line, bounds.bug);
        let is_taken = standing(own.horizon, &own.line, bounds.bug).takes_answer_to(&asked);
        if is_taken || bounds.bug == Some(Bug::AnswersSurviveAdoption) {
            self.join(i, &answer.tree, answer.ghost, bounds);
            self.replicas[i].durable.is_fresh = false;
        }
        true
    }

    fn adopt(&mut self, i: usize, silent: u8, bounds: &Bounds) -> Result<bool, &'static str> {
        match adoption(&self.replicas[i], silent, bounds) {
            Decision::Adopt { horizon, lineage } => {
                let horizon = u8::try_from(horizon).map_err(|_| "I4: no horizon of the grid")?;
                let durable = &self.replicas[i].durable;
                if horizon <= durable.horizon || horizon > durable.floor {
                    return Err("I4: a horizon falls, or is above the floor");
                }
                if bounds.bug.is_none() && !is_promised(&self.replicas, i, horizon) {
                    return Err("I4: a member may take what is below the horizon");
                }
                let tree = durable.tree.collect(horizon);
                self.adopted(i, horizon, &lineage, tree, bounds);
                Ok(true)
            }
            Decision::Evict(lapsed) => {
                if self.left.lapses == 0 {
                    return Ok(false);
                }
                self.left.lapses -= 1;
                let replica = &mut self.replicas[i];
                lapsed
                    .iter()
                    .for_each(|name| replica.durable.tree.lapsed |= 1 << name);
                replica.made_root();
                Ok(true)
            }
            Decision::Idle | Decision::Wait(_) => Ok(false),
        }
    }

    fn adopted(
        &mut self,
        i: usize,
        horizon: u8,
        lineage: &Lineage<u8>,
        tree: Content,
        bounds: &Bounds,
    ) {
        let replica = &mut self.replicas[i];
        let durable = &mut replica.durable;
        durable.tree = tree;
        durable.horizon = horizon;
        durable.line = line(lineage);
        durable.floor = durable.floor.max(horizon);
        replica.synced_floor = durable.floor;
        replica.is_restored = false;
        replica.forget_evidence();
        if bounds.bug != Some(Bug::PastKeptAtAdoption) {
            replica.past.clear();
        }
        replica.made_root();
    }

    /// Replica `i` meets the higher horizon of `j`.
    fn catch_up(&mut self, i: usize, j: usize, by_hand: bool, bounds: &Bounds) -> bool {
        let source = self.replicas[j].clone();
        let theirs = &source.durable;
        if theirs.is_fresh && bounds.bug != Some(Bug::FreshIsSource) {
            return false;
        }
        let own = &self.replicas[i].durable;
        if own.is_fresh || (by_hand && theirs.horizon == 0) {
            return false;
        }
        let Approach::CatchUp { common } = meeting(own, theirs, by_hand, bounds.bug) else {
            return false;
        };
        let common = match bounds.bug {
            Some(Bug::JoinByHandDropsOwn) if by_hand => own.horizon,
            _ => u8::try_from(common).unwrap_or(NEVER),
        };
        if by_hand {
            self.left.joins -= 1;
        }
        // What waits is in before: no client is kept waiting, and what it writes meanwhile is above.
        self.settle(i, bounds);
        let own = self.replicas[i].durable;
        let known = match bounds.bug {
            Some(Bug::KnownOfAnyMember) => own.known.iter().map(|known| known.0).max().unwrap_or(0),
            Some(Bug::KnownOutlivesRestore) => own.known[j].0,
            // Another lineage, or another life: nothing is known.
            _ if by_hand || own.known[j].1 != source.life => 0,
            _ => own.known[j].0,
        };
        let judged = Judged {
            horizon: theirs.horizon.into(),
            common: common.into(),
            known: known.into(),
        };
        let (tree, aside, ghost, void) = mirror(&own, theirs, &judged, bounds.bug);
        let durable = &mut self.replicas[i].durable;
        durable.aside |= aside;
        durable.ghost = ghost;
        durable.void |= void;
        durable.known = [(0, 0); REPLICAS];
        let lineage = crate::decide::lineage(&theirs.line);
        self.adopted(i, theirs.horizon, &lineage, tree, bounds);
        let replica = &mut self.replicas[i];
        // What it set aside it has no more, though nobody removed it: what others knew of it is void.
        if aside != 0 && bounds.bug != Some(Bug::AsideKeepsLife) {
            replica.life += 1;
        }
        // Evictions are for good: whoever was evicted goes on under another name.
        if names(tree.evicted()).any(|name| name == replica.durable.name)
            && replica.durable.name < 3
        {
            replica.durable.name += 3;
            replica.durable.tree.joins |= 1 << replica.durable.name;
            replica.life += 1;
            replica.made_root();
        }
        true
    }

    fn crash(&mut self, i: usize) -> bool {
        self.left.crashes -= 1;
        self.opened(i);
        true
    }

    fn opened(&mut self, i: usize) {
        let replica = &mut self.replicas[i];
        replica.life += 1;
        replica.durable.floor = replica.synced_floor;
        replica.told = 0;
        replica.seen = Default::default();
        replica.answer = None;
        replica.past.clear();
        replica.made_root();
    }

    fn save(&mut self, i: usize) -> bool {
        let replica = &mut self.replicas[i];
        let is_first = replica.image.is_none() && !replica.durable.is_fresh;
        replica.image.get_or_insert(replica.durable);
        is_first
    }

    fn restore(&mut self, i: usize) -> bool {
        let replica = &mut self.replicas[i];
        let Some(image) = replica
            .image
            .take()
            .filter(|image| *image != replica.durable)
        else {
            return false;
        };
        replica.durable = image;
        replica.synced_floor = image.floor;
        replica.is_restored = true;
        self.left.restores -= 1;
        self.opened(i);
        true
    }

    /// An operator at `i` says that `j` is gone.
    fn forget(&mut self, i: usize, j: usize) -> bool {
        self.left.forgets -= 1;
        let name = self.replicas[j].durable.name;
        let replica = &mut self.replicas[i];
        if replica.durable.tree.evicted() >> name & 1 == 1 {
            return false;
        }
        replica.durable.tree.forced |= 1 << name;
        replica.made_root();
        true
    }

    /// An empty replica joins at `j`: it takes the standing, and is no source before it has pulled.
    fn begin(&mut self, i: usize, j: usize) -> bool {
        let source = self.replicas[j].durable;
        let replica = &mut self.replicas[i];
        let durable = &mut replica.durable;
        if source.is_fresh || !durable.is_fresh || durable.tree.joins != 0 {
            return false;
        }
        self.left.joins -= 1;
        durable.horizon = source.horizon;
        durable.line = source.line;
        durable.floor = source.floor;
        replica.synced_floor = source.floor;
        let system = Content::default().with_system_cells(&source.tree);
        durable.tree = system;
        durable.tree.joins |= 1 << durable.name;
        replica.past.clear();
        replica.made_root();
        true
    }
}

/// What a replica has after it has caught up, what it sets aside, and what its tree stands for.
fn mirror(
    own: &Durable,
    source: &Durable,
    judged: &Judged,
    bug: Option<Bug>,
) -> (Content, Ops, Ops, Ops) {
    let horizon = source.horizon;
    let clone = own.tree.collect(horizon).with_system_cells(&source.tree);
    if clone == source.tree {
        // What the other does not stand for has left no trace: it was deleted here.
        let above = own.ghost & !below(own.ghost, horizon);
        let ghost = source.ghost | above;
        return (clone, 0, ghost, own.ghost & !ghost);
    }
    let mut before = own.tree;
    if bug == Some(Bug::BaseBeforeAside) {
        before = before.join(&source.tree, false);
    }
    let mut aside = 0;
    let (mut kept, mut void) = (0, 0);
    let ghost = source.ghost | (own.ghost & !below(own.ghost, horizon));
    for op in each(before.cells & !source.tree.cells) {
        let is_void = is_tombstone(op) && !source.tree.is_touched_by(op);
        let time = time(op).into();
        match judged.fate(OwnCell { time, is_void }) {
            Fate::Keep => kept |= 1 << op,
            Fate::Drop if is_void => void |= 1 << op,
            Fate::Drop => {}
            Fate::SetAside if bug == Some(Bug::CatchUpKeepsOwn) => kept |= 1 << op,
            Fate::SetAside if bug == Some(Bug::TombstonesDropped) && is_tombstone(op) => {}
            Fate::SetAside => aside |= 1 << op,
        }
    }
    if before.base.0 != 0 && before.base != source.tree.base {
        let (time, is_void) = (before.base.0.into(), false);
        if judged.fate(OwnCell { time, is_void }) == Fate::SetAside {
            aside |= counted(before.base);
        }
    }
    let mut own_above = Content::of(kept);
    own_above = own_above.with_system_cells(&own.tree);
    (source.tree.join(&own_above, false), aside, ghost, void)
}
