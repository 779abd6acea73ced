//! What a program can emit.

use ksi_abi::{EventName, NameError};
use serde::Serialize;

use super::{NewEvent, Payload};

/// What can be emitted: a [`NewEvent`], or a value of a type that belongs to one event name, as
/// those of the `#[event("ns:name")]` attribute of `ksi-plugin-api`. A reference to such a value
/// will do.
///
/// ```
/// use ksi_kernel::event::IntoEvent;
///
/// #[derive(serde::Serialize)]
/// struct Greet {
///     name: &'static str,
/// }
///
/// impl ksi_abi::EventName for Greet {
///     const NAME: &'static str = "greet:request";
/// }
///
/// let event = Greet { name: "you" }.into_event()?;
/// # Ok::<_, ksi_kernel::event::InvalidEvent>(())
/// ```
pub trait IntoEvent {
    /// The event.
    ///
    /// # Errors
    /// It has no valid name, or its payload is no JSON.
    fn into_event(self) -> Result<NewEvent, InvalidEvent>;
}

/// Why something is no event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEvent {
    /// Its name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Its payload cannot become JSON.
    #[error("the payload cannot become JSON: {0}")]
    Payload(#[source] serde_json::Error),
}

impl IntoEvent for NewEvent {
    fn into_event(self) -> Result<NewEvent, InvalidEvent> {
        Ok(self)
    }
}

impl<E: EventName + Serialize> IntoEvent for E {
    fn into_event(self) -> Result<NewEvent, InvalidEvent> {
        NewEvent::json(E::NAME, &self)
    }
}

impl NewEvent {
    /// An event of this name, with a payload that becomes JSON.
    ///
    /// ```
    /// let event = ksi_kernel::event::NewEvent::json("greet:request", &["you"])?;
    /// # Ok::<_, ksi_kernel::event::InvalidEvent>(())
    /// ```
    ///
    /// # Errors
    /// The name is no event name, or the payload cannot become JSON.
    pub fn json(name: &str, payload: &(impl Serialize + ?Sized)) -> Result<Self, InvalidEvent> {
        Ok(NewEvent::new(name, Payload::encode(payload).map_err(InvalidEvent::Payload)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Greet {
        name: &'static str,
    }

    impl EventName for Greet {
        const NAME: &'static str = "greet:request";
    }

    #[test]
    fn a_value_of_an_event_type_becomes_an_event_of_its_name() {
        let greet = Greet { name: "you" };
        for event in [(&greet).into_event(), greet.into_event()] {
            let event = event.expect("an event");
            assert_eq!(&*event.name, "greet:request");
            assert_eq!(event.payload.as_json(), br#"{"name":"you"}"#);
        }
    }

    #[test]
    fn what_is_no_event_says_why() {
        let name = NewEvent::json("greet", &1).expect_err("no name");
        assert!(matches!(name, InvalidEvent::Name(_)), "{name}");
        let keys = std::collections::BTreeMap::from([((1, 2), 3)]);
        let payload = NewEvent::json("a:b", &keys).expect_err("no JSON");
        assert!(
            payload.to_string().contains("cannot become JSON: key must be a string"),
            "{payload}"
        );
    }
}
