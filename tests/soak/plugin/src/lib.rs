//! What the soak loads: one plugin in all the parts that it needs, so that it takes two builds and
//! no more.
//!
//! The soak makes further plugins and further versions of it by changing its bytes: the name and
//! the events in the manifest, whether it keeps state and in which versions, its own version, a
//! defect. What it is, it is by what it is asked:
//!
//! | event | what it does |
//! |---|---|
//! | `count:echo` | answers |
//! | `count:add` | counts on a lane, then asks another plugin (`via`) if it is told to |
//! | `count:pass` | asks another plugin, or itself, and answers with the answer |
//! | `count:forward` | sends the request on as another event |
//! | `count:sent` | counts, and tells the soak by an event, since whoever sent it sees no answer |
//! | `count:wait`, `count:block` | waits on a timer, blocks a thread |
//! | `count:panic`, `count:late` | panics, takes longer than it may |
//! | `count:read` | everything that it keeps |

#[cfg(feature = "bulk")]
mod bulk;
mod counted;
mod inside;
mod marks;
mod own;
mod payloads;

use std::{
    future::pending,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use ksi_plugin_api::prelude::*;

use counted::{Counted, checksum};
use marks::Defect;
use payloads::{Answer, Applied, Ask, Config, Saved, SavedV1, Whole};

struct Soaked {
    version: u32,
    defect: Defect,
    counted: Counted,
    /// Requests that a version with a defect was asked.
    asked: AtomicU64,
}

#[cfg_attr(feature = "bulk", plugin(name = "count", runtime))]
#[cfg_attr(not(feature = "bulk"), plugin(name = "count"))]
impl Soaked {
    #[initialize]
    async fn initialize(ctx: &Context, config: Config) -> Result<Self> {
        let defect = Defect::of_this_library();
        defect.in_initialize(ctx);
        own::touch_thread(0);
        own::tick(ctx)?;
        for lane in config.inside {
            ctx.spawn(inside::client(ctx.clone(), lane))?;
        }
        Ok(Soaked {
            version: marks::version(),
            defect,
            counted: Counted::with_entries(config.entries_bytes),
            asked: AtomicU64::new(0),
        })
    }

    #[snapshot(version = 2)]
    async fn snapshot(&self, _ctx: &Context) -> Result<Saved> {
        Ok(self.counted.all().into())
    }

    #[snapshot(version = 1)]
    async fn snapshot_v1(&self, _ctx: &Context) -> Result<SavedV1> {
        Ok(self.counted.all().into())
    }

    #[restore(version = 2)]
    async fn restore(&self, ctx: &Context, saved: Saved) -> Result<()> {
        self.defect.in_restore(ctx)?;
        self.counted.replace(saved.into());
        Ok(())
    }

    #[restore(version = 1)]
    async fn restore_v1(&self, ctx: &Context, saved: SavedV1) -> Result<()> {
        self.defect.in_restore(ctx)?;
        self.counted.replace(saved.into());
        Ok(())
    }

    /// Answers.
    #[event_handler("count:echo")]
    async fn echo(&self, _ctx: &Context, ask: Ask) -> Result<Answer> {
        self.be_bad()?;
        Ok(self.answer(&ask))
    }

    /// Counts, and asks another plugin if it is told to.
    #[event_handler("count:add")]
    async fn add(&self, ctx: &Context, ask: Ask) -> Result<Answer> {
        self.be_bad()?;
        let answer = self.count(&ask);
        match &ask.via {
            Some(via) => {
                Ok(asked_in_turn(ctx, answer, via, &Ask { via: None, ..ask.again() }).await)
            }
            None => Ok(answer),
        }
    }

    /// Asks another plugin, or this one, and answers with its answer.
    #[event_handler("count:pass")]
    async fn pass(&self, ctx: &Context, ask: Ask) -> Result<Answer> {
        self.be_bad()?;
        let Some(to) = &ask.to else { return Err(Error::new("no_to", "pass needs \"to\"")) };
        Ok(asked_in_turn(ctx, self.answer(&ask), to, &Ask { to: None, ..ask.again() }).await)
    }

    /// Counts, and says so in an event.
    #[event_handler("count:sent")]
    async fn sent(&self, ctx: &Context, ask: Ask) -> Result<()> {
        let answer = match self.be_bad() {
            Ok(()) => self.count(&ask),
            Err(error) => Answer { trouble: Some(error.code().to_owned()), ..self.answer(&ask) },
        };
        let bad = answer.trouble.clone();
        ctx.emit(named("soak:applied", &Applied { lane: ask.lane, answer })).await;
        // The failure is the outcome here too, for whoever watches this generation.
        bad.map_or(Ok(()), |code| Err(Error::new(code, "a bad version, on purpose")))
    }

    /// Sends the request on, and waits for nothing.
    #[event_handler("count:forward")]
    async fn forward(&self, ctx: &Context, ask: Ask) -> Result<()> {
        let Some(to) = &ask.to else { return Err(Error::new("no_to", "forward needs \"to\"")) };
        ctx.send(named(to, &Ask { to: None, ..ask.again() }))
    }

    /// Waits, in the plugin's own runtime if it has one.
    #[event_handler("count:wait")]
    async fn wait(&self, ctx: &Context, ask: Ask) -> Result<Answer> {
        own::touch_thread(ask.number);
        own::panic_and_catch(ask.number)?;
        own::wait(ctx, Duration::from_micros(ask.micros)).await?;
        own::touch_thread(ask.number);
        #[cfg(feature = "bulk")]
        if bulk::entry(ask.number) == 0 {
            return Err(Error::new("no_table", "the table is empty"));
        }
        Ok(self.answer(&ask))
    }

    /// Blocks a thread that may be blocked.
    #[event_handler("count:block", blocking)]
    async fn block(&self, _ctx: &Context, ask: Ask) -> Result<Answer> {
        own::touch_thread(ask.number);
        std::thread::sleep(Duration::from_micros(ask.micros));
        Ok(self.answer(&ask))
    }

    #[event_handler("count:panic")]
    async fn panic(&self, _ctx: &Context, ask: Ask) -> Result<()> {
        panic!("on purpose: {}", ask.number)
    }

    /// Takes longer than it may.
    #[event_handler("count:late", timeout = "20ms")]
    async fn late(&self, _ctx: &Context, _ask: Ask) -> Result<()> {
        pending().await
    }

    /// Everything that is counted.
    #[event_handler("count:read")]
    async fn read(&self, _ctx: &Context, _data: Value) -> Result<Whole> {
        let all = self.counted.all();
        let bytes = all.entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        Ok(Whole {
            version: self.version,
            lanes: all.lanes,
            entries: all.entries.len(),
            entries_bytes: bytes,
            checksum: checksum(&all.entries),
        })
    }
}

impl Soaked {
    /// A version that is worse than the one before it fails before it has done anything.
    fn be_bad(&self) -> Result<()> {
        let bad = self.defect == Defect::Worse && self.asked.fetch_add(1, Relaxed) % 2 == 1;
        match bad {
            true => Err(Error::new("bad_version", format!("version {}, on purpose", self.version))),
            false => Ok(()),
        }
    }

    fn answer(&self, ask: &Ask) -> Answer {
        Answer { number: ask.number, version: self.version, ..Answer::default() }
    }

    fn count(&self, ask: &Ask) -> Answer {
        let (count, previous) = self.counted.add(ask.lane, ask.number);
        Answer { count: Some(count), previous: Some(previous), ..self.answer(ask) }
    }
}

impl Ask {
    fn again(&self) -> Ask {
        Ask {
            number: self.number,
            lane: self.lane,
            micros: self.micros,
            to: self.to.clone(),
            via: self.via.clone(),
        }
    }
}

/// Adds another plugin's answer, or why there is none: a failure over there is none of this
/// plugin's.
async fn asked_in_turn(ctx: &Context, mut answer: Answer, event: &str, ask: &Ask) -> Answer {
    match ctx.request::<Answer>(named(event, ask)).await {
        Ok(inner) => answer.inner = Some(Box::new(inner)),
        Err(error) => answer.trouble = Some(format!("{}: {}", error.code(), error.message())),
    }
    answer
}
