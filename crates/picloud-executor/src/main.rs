//! The worker process alone, for deployments where it is a binary of its own.

fn main() -> std::process::ExitCode {
    executor_core::main(std::env::args_os().skip(1))
}
