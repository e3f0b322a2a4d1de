//! The `lessor` program; see `lessor::cli`.

fn main() -> std::process::ExitCode {
    lessor::cli::main()
}
