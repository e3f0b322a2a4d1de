//! Enums whose values have stable names, as in the protocol and the store.

/// Declares such an enum: each variant with its name and, after `|`, other words for it. Adds `ALL`, `name` and
/// `from_name`.
macro_rules! named_enum {
    (
        $(#[$of_type:meta])*
        $vis:vis enum $type:ident {
            $($(#[$of_variant:meta])* $variant:ident = $name:literal $(| $other:literal)*,)*
        }
    ) => {
        $(#[$of_type])*
        $vis enum $type {
            $($(#[$of_variant])* $variant,)*
        }

        impl $type {
            /// All values.
            $vis const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The stable name.
            #[must_use]
            $vis const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The value with this name.
            #[must_use]
            $vis fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name $(| $other)* => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}
