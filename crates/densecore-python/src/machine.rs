//! What the machine is and does: hardware, tracing, self test.

use crate::error::named;
use densecore::hardware;
use densecore::vertex::CacheFormat;
use densecore::{Error, Result};
use pyo3::prelude::*;
use tracing::level_filters::LevelFilter;

/// "auto", "f32" or "f16".
pub fn cache_format(name: &str) -> Result<Option<CacheFormat>> {
    match name {
        "auto" => Ok(None),
        "f32" => Ok(Some(CacheFormat::F32)),
        "f16" => Ok(Some(CacheFormat::F16)),
        other => Err(Error::argument("kv", format!("{other:?}"), "it must be \"auto\", \"f32\" or \"f16\"")),
    }
}

pub fn cache_name(format: CacheFormat) -> &'static str {
    match format {
        CacheFormat::F32 => "f32",
        CacheFormat::F16 => "f16",
    }
}

/// (total, available) bytes, container limits included.
#[pyfunction]
fn memory() -> (u64, u64) {
    let m = hardware::memory();
    (m.total, m.available)
}

/// Threads this process may run at once.
#[pyfunction]
fn threads() -> usize {
    hardware::threads()
}

/// Physical cores, if the system tells.
#[pyfunction]
fn cores() -> Option<usize> {
    hardware::cores()
}

#[pyfunction]
fn cpu_name() -> Option<String> {
    hardware::cpu_name()
}

/// The kernels in use: "avx512", "avx2" or "portable".
#[pyfunction]
fn cpu_tier() -> &'static str {
    hardware::tier()
}

#[pyfunction]
fn cpu_features() -> Vec<&'static str> {
    hardware::features()
}

/// `[(what, whether it agreed with the reference)]`.
#[pyfunction]
fn self_test(py: Python<'_>) -> Vec<(String, bool)> {
    py.detach(densecore::selftest::self_test).into_iter().map(|c| (c.name, c.ok)).collect()
}

/// Writes the engine's spans of this level and above to standard error, with their times. Once a process.
#[pyfunction]
fn trace(py: Python<'_>, level: &str) -> PyResult<()> {
    let level: LevelFilter = level.parse().map_err(|_| {
        named(
            py,
            "ArgumentError",
            format!("level = {level:?}: it must be \"error\", \"warn\", \"info\", \"debug\" or \"trace\""),
        )
    })?;
    let set = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::CLOSE)
        .try_init();
    set.map_err(|e| {
        named(
            py,
            "ArgumentError",
            format!("tracing is already on in this process ({e}); start a new one to change its level"),
        )
    })
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(crate::model::check_options, m)?)?;
    m.add_function(wrap_pyfunction!(memory, m)?)?;
    m.add_function(wrap_pyfunction!(threads, m)?)?;
    m.add_function(wrap_pyfunction!(cores, m)?)?;
    m.add_function(wrap_pyfunction!(cpu_name, m)?)?;
    m.add_function(wrap_pyfunction!(cpu_tier, m)?)?;
    m.add_function(wrap_pyfunction!(cpu_features, m)?)?;
    m.add_function(wrap_pyfunction!(self_test, m)?)?;
    m.add_function(wrap_pyfunction!(trace, m)?)
}
