//! `mstctl watch`

mod view;

use std::{
    io::{self, IsTerminal as _, Read as _},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use zenoh_backend_mst::cell::ntp64_span;

use self::view::View;
use super::Context;
use crate::{
    args::Watch,
    connection::Connection,
    exit::{Answer, Error},
    output::{Tone, is_terminal},
    overview::{Storage, overview},
    replicas::Replica,
    terminal::{Screen, cut},
};

/// No oftener than this.
const SOONEST: Duration = Duration::from_millis(100);

/// What Ctrl-C is, where it is a key.
const CTRL_C: u8 = 3;

/// What the loop waits for.
enum Event {
    Key(u8),
    /// The process is to end.
    End,
    Replicas(Result<Vec<Replica>, Error>),
}

pub(super) fn run(context: &Context, args: &Watch) -> Result<Answer, Error> {
    let every = args.every.max(SOONEST);
    let connection = context.connect()?;
    // Whoever is not there now may come later; but a mistake is said at once.
    context.choice().all(connection.replicas()?)?;
    match is_terminal() && io::stdin().is_terminal() && !context.output.json {
        true => live(context, connection, every),
        false => plain(context, &connection, every),
    }
}

fn clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, ntp64_span)
}

/// Those that are wanted of all. Who has gone is no mistake here.
fn wanted(context: &Context, all: Vec<Replica>) -> Vec<Storage> {
    let replicas = context.choice().all(all.clone()).unwrap_or_default();
    overview(&replicas, &all)
}

/// A table, or a line of JSON, each time.
fn plain(context: &Context, connection: &Connection, every: Duration) -> Result<Answer, Error> {
    let output = context.output;
    let (mut view, begun) = (View::default(), Instant::now());
    loop {
        let next = Instant::now() + every;
        let storages = wanted(context, connection.replicas_within(connection.timeout)?);
        let now = clock();
        view.look(&storages, begun.elapsed().as_secs_f64(), now);
        match output.json {
            true => output.line(&view.document(&storages, now))?,
            false => output.text(view.text(&storages, now, output) + "\n\n")?,
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// The whole terminal, until a key ends it.
fn live(context: &Context, connection: Connection, every: Duration) -> Result<Answer, Error> {
    let (sender, events) = mpsc::channel();
    // Both threads end with the process: one waits for a key, the other for answers.
    let keys = sender.clone();
    thread::spawn(move || {
        for key in io::stdin().lock().bytes().map_while(Result::ok) {
            if keys.send(Event::Key(key)).is_err() {
                return;
            }
        }
    });
    end_on_signals(&sender)?;
    thread::spawn(move || {
        loop {
            let next = Instant::now() + every;
            let replicas = connection.replicas_within(connection.timeout);
            if sender.send(Event::Replicas(replicas)).is_err() {
                return;
            }
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    });
    let screen = Screen::enter()?;
    let (mut view, begun) = (View::default(), Instant::now());
    let mut storages = Vec::new();
    let mut looked = begun;
    loop {
        // Between two looks the terminal may get another size.
        match events.recv_timeout(Duration::from_millis(500)) {
            Ok(Event::Key(b'q' | b'Q')) => return Ok(Answer::Yes),
            Ok(Event::Key(CTRL_C) | Event::End) => return Err(Error::Interrupted),
            Ok(Event::Key(_)) => continue,
            Ok(Event::Replicas(replicas)) => {
                storages = wanted(context, replicas?);
                view.look(&storages, begun.elapsed().as_secs_f64(), clock());
                looked = Instant::now();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(Answer::Yes),
        }
        let body = match storages.is_empty() {
            true => "nobody answers".to_owned(),
            false => view.text(&storages, clock(), context.output),
        };
        let age = looked.elapsed();
        show(
            context,
            &screen,
            &body,
            age > 3 * every.max(Duration::from_secs(1)),
            age,
        )?;
    }
}

/// A signal that would end the process ends the loop, so that the terminal is given back.
fn end_on_signals(events: &mpsc::Sender<Event>) -> Result<(), Error> {
    let mut signals = Signals::new([SIGTERM, SIGHUP, SIGINT]).map_err(Error::Output)?;
    let events = events.clone();
    thread::spawn(move || {
        for _ in signals.forever() {
            if events.send(Event::End).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// The body, as much of it as there is room for, and a line below it.
fn show(
    context: &Context,
    screen: &Screen,
    body: &str,
    is_old: bool,
    age: Duration,
) -> Result<(), Error> {
    let (columns, rows) = screen.size();
    let foot = match is_old {
        true => format!("no answer for {} s; q quits", age.as_secs()),
        false => "q quits".to_owned(),
    };
    let tone = if is_old { Tone::Bad } else { Tone::Dim };
    let foot = context.output.paint(tone, &foot);
    let room = rows.saturating_sub(2);
    let lines = body.lines().take(room).chain(["", foot.as_str()]);
    let lines: Vec<String> = lines.map(|line| cut(line, columns)).collect();
    screen.show(lines.iter().map(String::as_str))
}
