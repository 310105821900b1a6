//! The state words of EC2. Any other word can be forced on a volume: a client must survive it.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
            /// A word that this version of EC2's model does not know.
            Other(String),
        }

        impl $name {
            /// Returns the word as EC2 writes it.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                match word.as_str() {
                    $($word => Self::$variant,)+
                    _ => Self::Other(word),
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                Self::from(word.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> Self {
                word.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// State of a volume.
    VolumeState {
        /// Being made; cannot be attached yet.
        Creating = "creating",
        /// Attached to nothing.
        Available = "available",
        /// Attached, or about to be, or not yet detached.
        InUse = "in-use",
        /// On its way out.
        Deleting = "deleting",
        /// Gone: EC2 no longer knows the id.
        Deleted = "deleted",
        /// The hardware below it failed.
        Error = "error",
    }
}

words! {
    /// State of one attachment of a volume.
    AttachmentState {
        /// Asked for, not there yet.
        Attaching = "attaching",
        /// The instance has the device.
        Attached = "attached",
        /// On its way off.
        Detaching = "detaching",
        /// Off; EC2 normally forgets the attachment instead of saying so.
        Detached = "detached",
        /// The instance does not let go of the device.
        Busy = "busy",
    }
}

words! {
    /// State of an instance.
    InstanceState {
        /// Up.
        Running = "running",
        /// Switched off; its volumes stay attached.
        Stopped = "stopped",
        /// Gone for ever.
        Terminated = "terminated",
    }
}
