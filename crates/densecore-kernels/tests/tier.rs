//! Which kernels are chosen on which processor.

use densecore_kernels::Tier;
use densecore_kernels::cpu::features;

/// Tests that mean a certain tier say so (an emulator can be asked for any processor); otherwise the features decide.
#[test]
fn the_tier_is_the_best_this_processor_allows() {
    let has = |needed: &[&str]| needed.iter().all(|name| features().contains(name));
    let best = if has(&["avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni"]) {
        Tier::Avx512
    } else if has(&["avx2", "fma", "f16c"]) {
        Tier::Avx2
    } else if has(&["dotprod"]) {
        Tier::Neon
    } else {
        Tier::Portable
    };
    let lowered = std::env::var("DENSECORE_TIER").ok();
    let found = Tier::detect();
    match std::env::var("DENSECORE_EXPECTED_TIER") {
        Ok(expected) => assert_eq!(found.name(), expected),
        Err(_) if lowered.is_some() => assert!(found <= best),
        Err(_) => assert_eq!(found, best),
    }
}
