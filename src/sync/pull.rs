//! One repair: asks for a delta since a root that both have had; or else for where the
//! trees differ, then for the cells.
//!
//! The walk is depth first, and fetches cells as soon as many are wanted. So its memory
//! is bounded, however much differs; and as fetched cells are joined at once, a pull that
//! breaks off has not been in vain.

mod piece;

use std::{collections::VecDeque, time::Duration};

use super::{
    asked::Asked as AskedAt,
    cells::{CELL_OVERHEAD, Received},
    compare::{self, Found, Place, first_fragment, fragment},
    delta::{DeltaQuery, DeltaReply, Progress},
    digests::{Differing, DigestQueryWriter, read_reply},
    entries::{EntriesReply, Want, encode_wants},
    fragment::{Fragment, Range},
    identity::ReplicaId,
    lineages::{lineage_query, read_lineage},
    max_answer,
    mirror::Mirror,
    pieces::{Assembly, MAX_NOTICES, Notice},
    salted::Salted,
    wire::MessageError,
};
use crate::{
    cell::{CellKey, Part, Timestamp},
    collection::{kept::MemberId, lineage::Lineage},
    merge::fields_around,
    replica::Tree,
};

/// Wanted cells after which they are fetched before the walk goes on: as many as fill a
/// message, at so many bytes each.
const BYTES_WANTED: usize = 128;

/// The pending question, by which to read the answer.
enum Asked {
    Delta,
    /// Digests of these ranges, which are in these places of the own tree.
    Digests(Vec<(Range, Fragment)>, Vec<Place>),
    /// This number of wanted cells and ranges.
    Entries(usize),
    /// A piece of the value that is being put together, of no more than so many bytes.
    Piece(usize),
    /// The lineage.
    Lineage,
}

/// What an answer brought.
#[derive(Debug, Default)]
pub(super) struct Brought {
    /// Cells that were asked for.
    pub(super) cells: Vec<Received>,
    /// Cells that are to be fetched in pieces, if they are wanted.
    pub(super) notices: Vec<Notice>,
    /// The value of which all pieces are here: it is the cell, if that can be read.
    pub(super) whole: Option<Notice>,
    /// Bytes of the answer, unpacked, about.
    pub(super) bytes: usize,
    /// The peer's horizon and lineage, if that was asked.
    pub(super) lineage: Option<(u64, Lineage<MemberId>)>,
}

impl Brought {
    fn new(answer: &[u8], cells: Vec<Received>, notices: Vec<Notice>) -> Self {
        let carried = cells.iter().map(|received| {
            received.key.text_and_part_len() + received.cell.value_bytes() + CELL_OVERHEAD / 2
        });
        Self {
            bytes: carried.sum::<usize>().max(answer.len()),
            cells,
            notices,
            whole: None,
            lineage: None,
        }
    }
}

/// The next question.
pub(super) enum Ask {
    Digests(Vec<u8>),
    Entries(Vec<u8>),
    /// There is nothing left to ask.
    Nothing,
}

/// A repair.
pub(super) struct Pull {
    pub(super) peer: ReplicaId,
    salted: Salted,
    /// About the size of a query, and of an answer.
    message_bytes: usize,
    /// The own watermark: what is dead there is not asked for.
    watermark: u64,
    /// The delta to ask for before the trees are compared.
    delta: Option<DeltaQuery>,
    /// Whether the peer knew one of the delta's roots.
    pub(super) is_delta: bool,
    /// Open ranges; the next is last.
    open: Vec<(Range, Place)>,
    wants: VecDeque<Want>,
    /// Cells to be fetched in pieces.
    large: Vec<Notice>,
    asked: Option<Asked>,
    /// The own tree, with what of the peer is not taken in it, if there is any: it is compared in the
    /// place of the own.
    beside: Option<Tree>,
    /// At what horizon the peer is to answer, if it collects.
    pub(super) asked_at: Option<AskedAt>,
    /// What is found of the own cells, if this is a repair by which the replica catches up.
    pub(super) mirror: Option<Mirror>,
    /// Whether the lineage is still to be asked for.
    asks_lineage: bool,
    /// Cells that were received and not rejected.
    pub(super) received: u64,
}

impl Pull {
    pub(super) fn new(peer: ReplicaId, salted: Salted, message_bytes: usize) -> Self {
        Self {
            peer,
            salted,
            message_bytes,
            watermark: 0,
            delta: None,
            is_delta: false,
            open: vec![Default::default()],
            wants: VecDeque::new(),
            large: Vec::new(),
            asked: None,
            beside: None,
            asked_at: None,
            mirror: None,
            asks_lineage: false,
            received: 0,
        }
    }

    /// From now on messages have about this size.
    pub(super) fn set_message_bytes(&mut self, bytes: usize) {
        self.message_bytes = bytes;
        if let Some(delta) = &mut self.delta {
            delta.max_bytes = bytes as u32;
        }
    }

    /// What is dead at this watermark is not asked for from now on.
    pub(super) fn set_watermark(&mut self, watermark: u64) {
        self.watermark = watermark;
        if let Some(delta) = &mut self.delta {
            delta.watermark = watermark;
        }
    }

    /// The last query was lost: what it asked for is to be asked for anew.
    pub(super) fn take_back(&mut self) {
        if let Some(Asked::Digests(asked, places)) = self.asked.take() {
            let ranges = asked.into_iter().map(|(range, _)| range);
            self.open.extend(ranges.zip(places).rev());
        }
    }

    /// Fetches this cell in pieces, too.
    pub(super) fn fetch(&mut self, notice: Notice) {
        self.large.push(notice);
    }

    /// Compares this tree, if there is one, in the place of the own.
    pub(super) fn beside(self, beside: Option<Tree>) -> Self {
        Self { beside, ..self }
    }

    /// Whether there is something that the peer has and this replica does not take.
    pub(super) fn is_beside(&self) -> bool {
        self.beside.is_some()
    }

    /// Only asks for the lineage.
    pub(super) fn of_lineage(self) -> Self {
        Self {
            open: Vec::new(),
            asks_lineage: true,
            ..self
        }
    }

    /// Is to be answered at this horizon.
    pub(super) fn at(self, asked_at: Option<AskedAt>) -> Self {
        Self { asked_at, ..self }
    }

    /// Also finds what the peer does not have.
    pub(super) fn mirroring(self, mirror: Mirror) -> Self {
        Self {
            mirror: Some(mirror),
            ..self
        }
    }

    /// Asks for a delta before it compares the trees.
    pub(super) fn with_delta(self, delta: Option<DeltaQuery>) -> Self {
        Self { delta, ..self }
    }

    /// The next query. `newest` gives the timestamp of a key's newest cell here, settled or
    /// not. The value of which there are pieces is `assembly`.
    pub(super) fn ask(
        &mut self,
        tree: &Tree,
        newest: &dyn Fn(&CellKey) -> Option<Timestamp>,
        assembly: &mut Option<Assembly>,
        now: Duration,
    ) -> Ask {
        if std::mem::take(&mut self.asks_lineage) {
            self.asked = Some(Asked::Lineage);
            return Ask::Entries(lineage_query());
        }
        if self.large.len() >= MAX_NOTICES
            && let Some(query) = self.ask_piece(tree, newest, assembly, now)
        {
            return Ask::Entries(query);
        }
        if let Some(delta) = &self.delta {
            self.asked = Some(Asked::Delta);
            return Ask::Entries(delta.encode());
        }
        let digests = match self.wants.len() < self.message_bytes / BYTES_WANTED {
            true => self.ask_digests(tree),
            false => None,
        };
        if let Some(query) = digests {
            return Ask::Digests(query);
        }
        if self.wants.is_empty() {
            // What is small has come first.
            let piece = self.ask_piece(tree, newest, assembly, now);
            return piece.map_or(Ask::Nothing, Ask::Entries);
        }
        // A cell that came another way meanwhile need not be sent again. Who catches up may have to let
        // go of what covers one.
        let is_mirror = self.mirror.is_some();
        for want in self.wants.iter_mut().filter(|_| !is_mirror) {
            if let Want::Key(key, have) = want {
                let pending = newest(key).map(|timestamp| timestamp.time);
                if pending > *have {
                    *have = pending.map(|time| time.saturating_add(1));
                }
                // Nor does a cell that the own cell of the key covers, or of a field. (Of its own
                // time there may be one that it does not cover, of a clock with a greater ID.)
                let fields = fields_around(key.part.as_bytes()).map(Part::from);
                let of_key = (!key.part.is_empty()).then_some(Part::EMPTY);
                for part in fields.chain(of_key) {
                    let own = newest(&CellKey {
                        key: key.key.clone(),
                        part,
                    });
                    *have = (*have).max(own.map(|own| own.time));
                }
            }
        }
        let wants = self.wants.make_contiguous();
        let room = self.message_bytes;
        let (query, count) = encode_wants((room as u32, self.watermark), wants, room);
        self.asked = Some(Asked::Entries(count));
        Ask::Entries(query)
    }

    /// The next digest query, if there are open ranges.
    pub(super) fn ask_digests(&mut self, tree: &Tree) -> Option<Vec<u8>> {
        let beside = self.beside.clone();
        let tree = beside.as_ref().unwrap_or(tree);
        let room = self.message_bytes;
        let mut writer = DigestQueryWriter::new(self.salted, room as u32, self.watermark);
        let (mut asked, mut places) = (Vec::new(), Vec::new());
        while writer.has_room(room) {
            let Some((range, place)) = self.open.pop() else {
                break;
            };
            let Some(run) = place.run(tree, range.bounds()) else {
                self.wants.push_back(Want::All(range));
                continue;
            };
            let (fragment, place) = match range == Range::default() {
                true => (first_fragment(tree, &self.salted, room), Place::Anywhere),
                false => (
                    fragment(tree, &run, &self.salted, room),
                    Place::Within(run.subtree().clone()),
                ),
            };
            drop(run);
            if fragment.is_cut {
                let low = fragment.entries.last().map(|(key, _)| key.clone());
                let high = range.high.clone();
                self.open.push((Range { low, high }, Place::Anywhere));
            }
            writer.push(&range, &fragment);
            asked.push((range, fragment));
            places.push(place);
        }
        if asked.is_empty() {
            return None;
        }
        self.asked = Some(Asked::Digests(asked, places));
        Some(writer.finish())
    }

    /// Handles the answer to the last query, and returns what of it was asked for.
    pub(super) fn answer(
        &mut self,
        bytes: &[u8],
        tree: &Tree,
        assembly: &mut Option<Assembly>,
        now: Duration,
    ) -> Result<Brought, MessageError> {
        let max_bytes = max_answer(self.message_bytes);
        if bytes.len() > max_bytes {
            return Err(MessageError::TooLarge("bytes"));
        }
        match self.asked.take() {
            None => Ok(Brought::default()),
            Some(Asked::Lineage) => {
                let mut brought = Brought::new(bytes, Vec::new(), Vec::new());
                brought.lineage = Some(read_lineage(bytes)?);
                Ok(brought)
            }
            Some(Asked::Piece(max_bytes)) => self.add_piece(bytes, max_bytes, assembly, now),
            Some(Asked::Delta) => {
                let Some(mut delta) = self.delta.take() else {
                    return Ok(Brought::default());
                };
                let DeltaReply {
                    progress,
                    cells,
                    notices,
                } = DeltaReply::decode(bytes, delta.after, max_bytes)?;
                self.is_delta = progress != Progress::Unknown;
                match progress {
                    Progress::Unknown => {}
                    Progress::Done => self.open.clear(),
                    Progress::After(change) => {
                        delta.after = change;
                        self.delta = Some(delta);
                    }
                }
                Ok(Brought::new(bytes, cells, notices))
            }
            Some(Asked::Digests(asked, places)) => {
                self.look(tree, &asked, &places, bytes)?;
                Ok(Brought::new(bytes, Vec::new(), Vec::new()))
            }
            Some(Asked::Entries(count)) => {
                let wanted = &self.wants.make_contiguous()[..count];
                let EntriesReply {
                    done,
                    cells,
                    notices,
                } = EntriesReply::decode(bytes, wanted, max_bytes)?;
                self.wants.drain(..done);
                // For a range that goes on: what is above the last of its cells.
                if let Some(Want::All(range)) = self.wants.front_mut().filter(|_| done < count) {
                    let keys = cells.last().map(|cell| &cell.key).into_iter();
                    let keys = keys.chain(notices.last().map(|notice| &notice.key));
                    if let Some(last) = keys.filter(|key| range.contains(key)).max() {
                        range.low = Some(last.clone());
                    }
                }
                Ok(Brought::new(bytes, cells, notices))
            }
        }
    }

    /// The number of wanted cells and ranges.
    pub(super) fn found(&self) -> usize {
        self.wants.len()
    }

    pub(super) fn into_wants(self) -> Vec<Want> {
        self.wants.into()
    }

    fn look(
        &mut self,
        tree: &Tree,
        asked: &[(Range, Fragment)],
        places: &[Place],
        reply: &[u8],
    ) -> Result<(), MessageError> {
        let mut found = Found {
            own: self.mirror.is_some().then(Vec::new),
            ..Found::default()
        };
        let own = tree;
        let tree = self.beside.as_ref().unwrap_or(own);
        read_reply(reply, &self.salted, asked, |at, differing| {
            let (range, fragment) = &asked[at];
            match differing {
                Differing::Entry(place) => {
                    let (key, _) = &fragment.entries[place];
                    let have = time_of(own, key);
                    found.wants.push(Want::Key(key.clone(), have));
                }
                Differing::All(place) => found.wants.push(Want::All(fragment.gap(range, place))),
                Differing::Gone(place) => {
                    let (key, _) = &fragment.entries[place];
                    if let Some(mirror) = &mut self.mirror {
                        mirror.see(key, tree);
                    }
                }
                Differing::Empty(place) => {
                    let ranges = found.own.iter_mut();
                    ranges.for_each(|ranges| ranges.push(fragment.gap(range, place)));
                }
                Differing::Later(place) => {
                    let gap = fragment.gap(range, place);
                    found.open.push((gap, places[at].clone()));
                }
                Differing::Fragment(place, theirs) => {
                    let gap = (fragment.gap_bounds(range.bounds(), place), &places[at]);
                    compare::look(tree, &self.salted, gap, &theirs, &mut found);
                }
            }
        })?;
        if self.beside.is_some() {
            // What is not taken is not had; nor is what is let go of for what the peer has.
            let least = self.mirror.as_ref().map_or(0, |mirror| mirror.horizon);
            for want in &mut found.wants {
                if let Want::Key(key, have) = want {
                    *have = time_of(own, key).filter(|time| *time >= least);
                }
            }
        }
        if let Some((mirror, ranges)) = self.mirror.as_mut().zip(found.own) {
            ranges.iter().for_each(|range| mirror.see_all(range, tree));
        }
        self.wants.extend(found.wants);
        self.open.extend(found.open.into_iter().rev());
        Ok(())
    }
}

/// The time of the cell that a tree has of a key.
fn time_of(tree: &Tree, key: &CellKey) -> Option<u64> {
    let Ok(entry) = tree.get(key);
    entry.map(|entry| entry.timestamp().time)
}
