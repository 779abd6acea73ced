//! `[contracts]`: what becomes of a version that no longer understands the plugins beside it, and of
//! payloads that their handlers do not take.

use std::collections::BTreeMap;

use ksi_abi::Pattern;
use serde::Deserialize;

use super::{Config, Problem, reload::is_plugin_name};

/// What becomes of a version that breaks a contract: that no longer takes what live plugins send,
/// or no longer sends what they take. TOML: `[contracts]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Contracts {
    /// A contract with a live plugin. Default: the version is refused.
    pub policy: ContractPolicy,
    /// What clients of the socket could send until now, and a new version no longer takes. Nobody
    /// knows whether they do. Default: a warning.
    pub clients: ContractPolicy,
    /// Whose payloads are held against what their handlers say that they take, before any of them
    /// runs. Default: nobody's.
    pub validate: Validate,
    /// What differs for contracts that a plugin is one side of, by its name. Of two plugins with
    /// different ones, the laxer one counts. TOML: `[contracts.plugins.NAME]`. Default: nothing.
    pub plugins: BTreeMap<String, ContractsOf>,
    /// What differs for events, by name or pattern; it goes before what holds for plugins, and an
    /// exact name before patterns. TOML: `[contracts.events."state:*"]`. Default: nothing.
    pub events: BTreeMap<String, ContractsOf>,
}

/// What differs from [`Contracts`] for one plugin or event. What is `None` is as for all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ContractsOf {
    /// In place of [`Contracts::policy`].
    pub policy: Option<ContractPolicy>,
    /// In place of [`Contracts::clients`].
    pub clients: Option<ContractPolicy>,
}

/// What is done about a broken contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ContractPolicy {
    /// Nothing: it is not looked at. `"off"`.
    Off,
    /// The version goes live, and the log and `ksi list` say what it breaks. `"warn"`.
    Warn,
    /// The version does not go live. `"refuse"`.
    #[default]
    Refuse,
}

/// Whose payloads are validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Validate {
    /// Nobody's: a handler says itself what it cannot read. `"off"`.
    #[default]
    Off,
    /// Those of clients of the socket, by the schemas of all handlers of the event. `"clients"`.
    Clients,
}

impl Default for Contracts {
    fn default() -> Self {
        Contracts {
            policy: ContractPolicy::Refuse,
            clients: ContractPolicy::Warn,
            validate: Validate::Off,
            plugins: BTreeMap::new(),
            events: BTreeMap::new(),
        }
    }
}

impl Contracts {
    pub(super) fn check(&self) -> Result<(), Problem> {
        let Self { policy: _, clients: _, validate: _, plugins, events } = self;
        if let Some(name) = plugins.keys().find(|name| !is_plugin_name(name)) {
            return Err(Problem::NoPluginName {
                table: "contracts.plugins",
                name: (*name).to_owned(),
            });
        }
        events.keys().try_for_each(|name| match Pattern::parse(name) {
            Ok(_) => Ok(()),
            Err(error) => Err(Problem::NoEventName {
                table: "contracts.events",
                name: name.clone(),
                reason: error.to_string(),
            }),
        })
    }

    /// What is said of an event.
    fn of_event(
        &self,
        event: &str,
        pick: impl Fn(&ContractsOf) -> Option<ContractPolicy>,
    ) -> Option<ContractPolicy> {
        let exact = self.events.get(event).and_then(&pick);
        exact.or_else(|| {
            let matching = self.events.iter().filter(|(name, _)| {
                Pattern::parse(name).is_ok_and(|pattern| pattern.matches(event))
            });
            // Of several patterns, as of several plugins.
            matching.filter_map(|(_, of)| pick(of)).min()
        })
    }
}

impl Config {
    /// What becomes of a version of `plugin` that breaks a contract over an event with another
    /// plugin, or with clients where that is `None`.
    ///
    /// ```
    /// use ksi_host::ContractPolicy::{Off, Refuse, Warn};
    ///
    /// let text = "[contracts]\nplugins.billing.policy = 'warn'\nevents.'debug:*'.policy = 'off'";
    /// let config = ksi_host::Config::from_toml(text, ".".as_ref())?;
    /// assert_eq!(config.contract_policy("order:placed", "shop", Some("stock")), Refuse);
    /// assert_eq!(config.contract_policy("order:placed", "shop", Some("billing")), Warn);
    /// assert_eq!(config.contract_policy("debug:line", "shop", Some("stock")), Off);
    /// assert_eq!(config.contract_policy("order:placed", "shop", None), Warn);
    /// # Ok::<(), ksi_host::ConfigError>(())
    /// ```
    pub fn contract_policy(
        &self,
        event: &str,
        plugin: &str,
        other: Option<&str>,
    ) -> ContractPolicy {
        let contracts = &self.contracts;
        let pick = |of: &ContractsOf| match other {
            Some(_) => of.policy,
            None => of.clients,
        };
        let of_plugin = |name: &str| contracts.plugins.get(name).and_then(pick);
        let all = match other {
            Some(_) => contracts.policy,
            None => contracts.clients,
        };
        let of_plugins = || [Some(plugin), other].into_iter().flatten().filter_map(of_plugin).min();
        contracts.of_event(event, pick).or_else(of_plugins).unwrap_or(all)
    }
}
