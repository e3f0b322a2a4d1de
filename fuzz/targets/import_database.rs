#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lessor::fuzzing::import_database(data));
