#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| permcast::fuzzing::forms(data));
