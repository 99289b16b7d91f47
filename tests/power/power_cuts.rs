//! Losses of power: a store that writes is cut off at points of its recording, and so is the recovery.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use zenoh_backend_mst::{config::Durability, merge::MergeRules, mst::RootHash};

use super::{
    check::{Found, LATEST, Opening, Refused, open},
    cut::{Loss, Playing},
    history::{Group, History},
    image::Image,
    interposer::Interposer,
    recording::{Op, Recording},
    workload::{BEGUN, CLOCK, SYNCED, Writer, fading_rules, rules},
};

/// The folder of the store, beside which salvage has its own.
pub const STORE: &str = "store";

/// The engine begins another journal when it writes tables and the journal has 64 MB.
const JOURNAL_BYTES: usize = 63_500_000;

/// Steps after which it has.
const MOST_STEPS: usize = 1_000;

/// How much of each.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Times that the store goes on from what a loss of power left.
    pub lives: usize,
    /// Steps of the workload in a life.
    pub steps: usize,
    /// Images of a life.
    pub images: usize,
    /// Of so many images one has its recovery cut, so often.
    pub double_every: usize,
    pub doubles: usize,
}

/// What was tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    pub images: usize,
    pub doubles: usize,
    pub refused: usize,
    pub groups: usize,
    pub calls: usize,
    /// Images in which what had died was in part gone, and in part still there.
    pub halfway: usize,
}

impl Tried {
    pub fn add(&mut self, other: Self) {
        self.images += other.images;
        self.doubles += other.doubles;
        self.refused += other.refused;
        self.groups += other.groups;
        self.calls += other.calls;
        self.halfway += other.halfway;
    }
}

pub struct PowerCuts {
    pub folder: PathBuf,
    pub disk: Arc<Interposer>,
    pub plan: Plan,
}

/// What must be found.
struct Expected<'a> {
    history: &'a History,
    /// The groups up to some one must be there, and nothing of others.
    is_ordered: bool,
    promised: usize,
    begun: usize,
    opening: Opening,
}

impl Expected<'_> {
    fn compare(&self, root: &RootHash, cells: &Group) -> Result<(), String> {
        let clock = self.opening.clock;
        self.history.is_some_of(cells, clock)?;
        if !self.is_ordered {
            return Ok(());
        }
        let found = self
            .history
            .groups_of(root, self.promised..=self.begun, clock);
        found.map(|_| ()).ok_or_else(|| {
            let (promised, begun) = (self.promised, self.begun);
            let all = 0..=self.history.groups.len();
            match self.history.groups_of(root, all, clock) {
                Some(other) => {
                    format!("{other} groups are there: {promised} were promised, {begun} begun")
                }
                None => format!(
                    "no number of groups is there, of {promised} promised and {begun} begun"
                ),
            }
        })
    }
}

impl PowerCuts {
    /// Tries all images of a seed.
    pub fn try_seed(&self, seed: u64) -> Result<Tried, String> {
        self.try_with(&rules(), seed)
    }

    /// Tries all images of a seed, of a store in which most cells die.
    pub fn try_deaths(&self, seed: u64) -> Result<Tried, String> {
        self.try_with(&fading_rules(), seed)
    }

    fn try_with(&self, rules: &Arc<MergeRules>, seed: u64) -> Result<Tried, String> {
        let mut random = StdRng::seed_from_u64(seed);
        let of_rules = |cells, died| History::of(Arc::clone(rules), cells, died);
        let (mut image, mut history) = (Image::default(), of_rules(Group::new(), 0));
        let mut tried = Tried::default();
        for life in 0..self.plan.lives {
            let durability = match random.gen_range(0..5) {
                0 => Durability::None,
                1 | 2 => Durability::Always,
                _ => Durability::Interval,
            };
            let of_life = |reason| format!("seed {seed}, life {life}, {durability:?}: {reason}");
            let lived = self.live(image, history, durability, &mut random);
            let (recording, lived) = lived.map_err(of_life)?;
            tried.groups += lived.groups.len();
            tried.calls += recording.ops.len();
            let is_ordered = durability != Durability::None;
            let last = self.try_images(&recording, &lived, is_ordered, &mut random, &mut tried);
            let (last, cells, clock) = last.map_err(of_life)?;
            (image, history) = (last, of_rules(cells, clock));
        }
        Ok(tried)
    }

    /// Tries images of a store whose engine begins another journal.
    pub fn try_rotation(&self, seed: u64) -> Result<Tried, String> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut tried = Tried::default();
        let folder = self.fresh("writing");
        let (store, history) = (folder.join(STORE), History::after(Vec::new()));
        let mut writer = Writer::open(&store, Durability::Interval, history, &self.disk)?;
        let journal = store.join("cells/0.jnl");
        writer.fill_journal(&journal, JOURNAL_BYTES)?;
        writer.replica.close().map_err(|error| error.to_string())?;
        let history = History::after(open(&store).map_err(|refused| refused.reason)?.cells);
        let (image, inodes) = Image::read(&folder);
        let file = self.folder.join("life.recording");
        self.disk.record(&folder, &file);
        let mut writer = Writer::open(&store, Durability::Interval, history, &self.disk)?;
        writer.run(self.plan.steps, &mut random)?;
        for _ in 0..MOST_STEPS {
            if !journal.exists() {
                break;
            }
            writer.run(1, &mut random)?;
        }
        if journal.exists() {
            return Err("no other journal is begun".to_owned());
        }
        let lived = writer.history.clone();
        writer.replica.close().map_err(|error| error.to_string())?;
        self.disk.stop();
        let recording = Recording::read(&file, &folder, image, &inodes);
        let lived = lived.lock().expect("no panic").clone();
        tried.groups += lived.groups.len();
        tried.calls += recording.ops.len();
        self.try_images(&recording, &lived, true, &mut random, &mut tried)?;
        Ok(tried)
    }

    /// Lets a store write, from an image on.
    fn live(
        &self,
        image: Image,
        history: History,
        durability: Durability,
        random: &mut StdRng,
    ) -> Result<(Recording, History), String> {
        let folder = self.fresh("writing");
        let inodes = image.write(&folder);
        let file = self.folder.join("life.recording");
        self.disk.record(&folder, &file);
        let mut writer = Writer::open(&folder.join(STORE), durability, history, &self.disk)?;
        let steps = random.gen_range(self.plan.steps / 2..=self.plan.steps * 3 / 2);
        writer.run(steps, random)?;
        let lived = writer.history.clone();
        writer.replica.close().map_err(|error| error.to_string())?;
        self.disk.stop();
        let recording = Recording::read(&file, &folder, image, &inodes);
        let lived = lived.lock().expect("no panic").clone();
        Ok((recording, lived))
    }

    /// Returns one of the images, what is in it, and the time by which cells may have died there.
    fn try_images(
        &self,
        recording: &Recording,
        history: &History,
        is_ordered: bool,
        random: &mut StdRng,
        tried: &mut Tried,
    ) -> Result<(Image, Group, u64), String> {
        let chosen = random.gen_range(0..self.plan.images);
        let mut kept = None;
        let mut playing = Playing::new(recording);
        let (mut promised, mut begun, mut clock) = (0, 0, history.died);
        let mut at = 0;
        for number in 0..self.plan.images {
            // Evenly, and the last is the end.
            let until = recording.ops.len() * (number + 1) / self.plan.images;
            for op in &recording.ops[at..until] {
                if let Op::Mark(text) = op {
                    let number = |prefix| {
                        text.strip_prefix(prefix)
                            .map(|n: &str| n.parse().expect("a number"))
                    };
                    begun = number(BEGUN).unwrap_or(begun);
                    promised = number(SYNCED).unwrap_or(promised);
                    clock = text
                        .strip_prefix(CLOCK)
                        .map_or(clock, |time| time.parse().expect("a time"));
                }
            }
            at = until;
            playing.play_to(at);
            let loss = Loss::ALL[(number + random.gen_range(0..2)) % Loss::ALL.len()];
            let image = playing.cut(loss, random);
            let expected = Expected {
                history,
                is_ordered,
                promised,
                begun,
                opening: Opening {
                    rules: Arc::clone(&history.rules),
                    clock: match history.rules.lifetimes().is_empty() {
                        true => LATEST,
                        false => clock,
                    },
                },
            };
            let found = self.try_image(&image, loss, &expected, number, random, tried);
            let of_image = |reason| {
                self.keep("life", recording, at);
                format!(
                    "after call {at} of {}, {loss:?}: {reason}",
                    recording.ops.len()
                )
            };
            let found = found.map_err(of_image)?;
            if number >= chosen && kept.is_none() && loss != Loss::TornSector {
                kept = Some((image, found, clock));
            }
        }
        Ok(kept.unwrap_or_else(|| {
            let before = recording.before.clone();
            (before, history.before.clone(), history.died)
        }))
    }

    fn try_image(
        &self,
        image: &Image,
        loss: Loss,
        expected: &Expected,
        number: usize,
        random: &mut StdRng,
        tried: &mut Tried,
    ) -> Result<Group, String> {
        tried.images += 1;
        let folder = self.fresh("image");
        let store = folder.join(STORE);
        let inodes = image.write(&folder);
        let is_double = number.is_multiple_of(self.plan.double_every);
        let file = self.folder.join("image.recording");
        if is_double {
            self.disk.record(&folder, &file);
        }
        let opening = &expected.opening;
        let found = match opening.open(&store) {
            Err(Refused {
                is_damage: true, ..
            }) if loss == Loss::TornSector => {
                tried.refused += 1;
                opening.salvage(&store)
            }
            found => found,
        };
        self.disk.stop();
        let Found {
            root,
            cells,
            dead_rows,
        } = found.map_err(|refused| refused.reason)?;
        expected.compare(&root, &cells)?;
        let lifetimes = expected.history.rules.lifetimes();
        if dead_rows > 0 && !lifetimes.is_empty() {
            let promised = expected.history.cells_after(expected.promised);
            let died = promised.dead(lifetimes, opening.clock);
            tried.halfway += usize::from(died > dead_rows);
        }
        if is_double {
            let recovery = Recording::read(&file, &folder, image.clone(), &inodes);
            let is_it = |again: &Found| again.root == root;
            self.cut_recovery(opening, (&recovery, loss), &is_it, random, tried)?;
        }
        self.again(opening, &store, root)?;
        if is_double && random.gen_bool(0.3) {
            let folder = self.fresh("image");
            let inodes = image.write(&folder);
            self.disk.record(&folder, &file);
            let saved = opening.salvage(&folder.join(STORE));
            self.disk.stop();
            let saved = saved.map_err(|refused| refused.reason)?;
            expected
                .compare(&saved.root, &saved.cells)
                .map_err(|reason| format!("salvage: {reason}"))?;
            let recovery = Recording::read(&file, &folder, image.clone(), &inodes);
            // Of a log that was not synced salvage reads more than what is not damaged, and is opened:
            // the groups behind one that is lost, too.
            let is_it = |again: &Found| match expected.is_ordered {
                true => again.root == saved.root,
                false => expected.compare(&again.root, &again.cells).is_ok(),
            };
            self.cut_recovery(opening, (&recovery, loss), &is_it, random, tried)
                .map_err(|reason| format!("salvage: {reason}"))?;
        }
        Ok(cells)
    }

    /// A second opening finds the same.
    fn again(&self, opening: &Opening, store: &Path, root: RootHash) -> Result<(), String> {
        let again = opening
            .open(store)
            .map_err(|refused| format!("opened again: {}", refused.reason))?;
        match again.root == root {
            true => Ok(()),
            false => Err("the root is another when it is opened again".to_owned()),
        }
    }

    /// A recovery that is cut off, too, ends as the first when it is tried again.
    fn cut_recovery(
        &self,
        opening: &Opening,
        (recovery, first): (&Recording, Loss),
        is_it: &dyn Fn(&Found) -> bool,
        random: &mut StdRng,
        tried: &mut Tried,
    ) -> Result<(), String> {
        let mut playing = Playing::new(recovery);
        let mut at = 0;
        for number in 0..self.plan.doubles {
            let until = recovery.ops.len() * (number + 1) / self.plan.doubles;
            at = random.gen_range(at..=until).max(at);
            playing.play_to(at);
            let loss = Loss::ALL[random.gen_range(0..Loss::ALL.len())];
            let image = playing.cut(loss, random);
            let folder = self.fresh("double");
            image.write(&folder);
            tried.doubles += 1;
            let is_torn = [first, loss].contains(&Loss::TornSector);
            let store = folder.join(STORE);
            let is_salvage = recovery.ops.iter().any(
                |op| matches!(op, Op::MakeFolder { path } if path != STORE && !path.contains('/')),
            );
            let found = match is_torn || is_salvage {
                true => opening.open_or_salvage(&store),
                false => opening.open(&store),
            };
            let of_cut = |reason: String| {
                self.keep("recovery", recovery, at);
                format!(
                    "its recovery, after call {at} of {}, {loss:?}: {reason}",
                    recovery.ops.len()
                )
            };
            let found = found.map_err(|refused| of_cut(refused.reason))?;
            if !is_it(&found) {
                return Err(of_cut(
                    "it is not what the recovery came to that was not cut".to_owned(),
                ));
            }
        }
        Ok(())
    }

    fn fresh(&self, name: &str) -> PathBuf {
        let folder = self.folder.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).expect("removed");
        }
        fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    /// Keeps the calls, and what there was before, for somebody to look at.
    fn keep(&self, what: &str, recording: &Recording, at: usize) {
        let mut text = String::new();
        for (number, op) in recording.ops.iter().enumerate() {
            let here = match number == at {
                true => "-------- the power is lost\n",
                false => "",
            };
            let mut line = format!("{op:?}");
            line.truncate(160);
            text += &format!("{here}{number}: {line}\n");
        }
        let kept = self.fresh(what);
        recording.before.write(&kept);
        fs::write(kept.join("calls.txt"), text).expect("written");
    }
}
