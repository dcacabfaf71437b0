//! Which instructions this machine has, decided once per process.

use std::sync::OnceLock;

/// A set of kernels. Of one architecture's tiers, later ones need more of the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Plain Rust, the reference.
    Portable,
    /// ARM's 128-bit vectors with 8-bit dot products.
    Neon,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// 512-bit vectors with 8-bit dot products.
    Avx512,
}

impl Tier {
    /// The name used in reports and in `DENSECORE_TIER`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// The best tier of this machine, lowered (never raised) by the variable `DENSECORE_TIER`. `avx2-plain` is
    /// [`Tier::Avx2`] without its dot products, see [`narrow_dots`].
    pub fn detect() -> Self {
        static TIER: OnceLock<Tier> = OnceLock::new();
        *TIER.get_or_init(|| {
            let best = Self::best();
            match std::env::var("DENSECORE_TIER").as_deref() {
                Ok("portable") => Self::Portable,
                Ok("avx2" | "avx2-plain") => best.min(Self::Avx2),
                _ => best,
            }
        })
    }

    #[cfg(target_arch = "x86_64")]
    fn best() -> Self {
        use std::arch::is_x86_feature_detected as has;
        let avx2 = has!("avx2") && has!("fma") && has!("f16c");
        let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512dq") && has!("avx512vnni");
        match (avx2, avx512) {
            (true, true) => Self::Avx512,
            (true, false) => Self::Avx2,
            _ => Self::Portable,
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn best() -> Self {
        if std::arch::is_aarch64_feature_detected!("dotprod") { Self::Neon } else { Self::Portable }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn best() -> Self {
        Self::Portable
    }
}

/// Whether [`Tier::Avx2`] has 8-bit dot products of 256 bits (AVX-VNNI; GFNI comes with them, but is asked for too).
/// `DENSECORE_TIER=avx2-plain` denies them.
#[cfg(target_arch = "x86_64")]
pub fn narrow_dots() -> bool {
    static DOTS: OnceLock<bool> = OnceLock::new();
    *DOTS.get_or_init(|| {
        let denied = std::env::var("DENSECORE_TIER").is_ok_and(|tier| tier == "avx2-plain");
        std::arch::is_x86_feature_detected!("avxvnni") && std::arch::is_x86_feature_detected!("gfni") && !denied
    })
}

/// The processor features that matter to kernels, by name.
pub fn features() -> Vec<&'static str> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! probe {
            ($($name:tt),*) => {
                $(if std::arch::is_x86_feature_detected!($name) { found.push($name); })*
            };
        }
        probe!(
            "avx",
            "avx2",
            "fma",
            "f16c",
            "avxvnni",
            "gfni",
            "avx512f",
            "avx512bw",
            "avx512dq",
            "avx512vl",
            "avx512vnni",
            "avx512bf16"
        );
    }
    #[cfg(target_arch = "aarch64")]
    {
        if std::arch::is_aarch64_feature_detected!("dotprod") {
            found.push("dotprod");
        }
    }
    found
}

/// Compiles a plain function once per tier, so that the compiler vectorises it for each, and picks one at run time.
macro_rules! tiered {
    ($(#[$meta:meta])* pub fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        $(#[$meta])*
        pub fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
                fn wide($($arg: $ty),*) $(-> $ret)? { $body($($arg),*) }
                #[target_feature(enable = "avx2,fma,f16c")]
                fn middle($($arg: $ty),*) $(-> $ret)? { $body($($arg),*) }
                match $crate::cpu::Tier::detect() {
                    // SAFETY: the tier was chosen because the processor has these features.
                    $crate::cpu::Tier::Avx512 => return unsafe { wide($($arg),*) },
                    // SAFETY: as above.
                    $crate::cpu::Tier::Avx2 => return unsafe { middle($($arg),*) },
                    // Vectors of ARM are in its baseline: the plain compilation uses them.
                    $crate::cpu::Tier::Portable | $crate::cpu::Tier::Neon => {}
                }
            }
            $body($($arg),*)
        }
    };
}
pub(crate) use tiered;
