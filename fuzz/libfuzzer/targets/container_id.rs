#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coracle_fuzz::bundles::container_id(data));
