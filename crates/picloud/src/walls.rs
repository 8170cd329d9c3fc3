//! Which walls an isolation mode cannot do without.

use orchestrator_core::pool::{Isolation, Mode};
use shared::wire::worker::Layers;

/// `strict` is chosen for scripts of people who are after each other's data: whoever takes over a worker
/// must find neither files, nor a network, nor other processes, nor a user who is worth anything.
const STRICT: Layers = Layers::SYSTEM_CALL_FILTER
    .and(Layers::EMPTY_ROOT)
    .and(Layers::NETWORK_NAMESPACE)
    .and(Layers::PROCESS_NAMESPACE)
    .and(Layers::USER_NAMESPACE);

/// Those that the mode needs and this machine does not give a worker. The system-call filter is not among
/// them, because no mode but `off` employs a worker without it.
pub fn missing(mode: Mode, isolation: Isolation) -> Layers {
    match mode {
        // Of a user namespace and a user of its own, one is enough: then neither is missing.
        Mode::Strict => {
            let missing = isolation.missing();
            missing.without(missing.without(STRICT))
        }
        Mode::Shared | Mode::Pinned | Mode::Off => Layers::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_needs_walls_that_pinned_can_do_without() {
        let without = |layer| Isolation { claimed: Layers::ALL.without(layer), confirmed: Layers::NONE };
        for layer in [Layers::EMPTY_ROOT, Layers::NETWORK_NAMESPACE, Layers::PROCESS_NAMESPACE] {
            assert_eq!(missing(Mode::Strict, without(layer)), layer);
            assert_eq!(missing(Mode::Pinned, without(layer)), Layers::NONE);
        }
        for layer in [Layers::OWN_USER, Layers::USER_NAMESPACE, Layers::SEALED_CODE] {
            assert_eq!(missing(Mode::Strict, without(layer)), Layers::NONE);
        }
        let users = Layers::OWN_USER | Layers::USER_NAMESPACE;
        assert_eq!(missing(Mode::Strict, without(users)), Layers::USER_NAMESPACE);
    }
}
