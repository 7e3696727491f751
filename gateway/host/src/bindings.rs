//! What wasmtime makes of the contract. One module for each world; the types they share are those of [`meta`].

#![allow(missing_docs, reason = "documented in wit/culvert-plugin")]
#![allow(unreachable_pub, clippy::all, reason = "generated")]

/// What every plugin exports.
pub mod meta {
    wasmtime::component::bindgen!({
        path: "../../wit/culvert-plugin",
        inline: "
            package culvert:host;
            world meta {
                import culvert:plugin/types@0.1.0;
                import culvert:plugin/config@0.1.0;
                export culvert:plugin/meta@0.1.0;
            }
        ",
        world: "culvert:host/meta",
    });
}

/// Transforms by rows.
pub mod rows {
    wasmtime::component::bindgen!({
        path: "../../wit/culvert-plugin",
        inline: "
            package culvert:host;
            world rows { export culvert:plugin/transform@0.1.0; }
        ",
        world: "culvert:host/rows",
        with: {
            "culvert:plugin/types": super::meta::culvert::plugin::types,
            "culvert:plugin/config": super::meta::culvert::plugin::config,
        },
    });
}

/// Transforms by columns.
pub mod columns {
    wasmtime::component::bindgen!({
        path: "../../wit/culvert-plugin",
        inline: "
            package culvert:host;
            world columns { export culvert:plugin/transform-columns@0.1.0; }
        ",
        world: "culvert:host/columns",
        with: {
            "culvert:plugin/types": super::meta::culvert::plugin::types,
            "culvert:plugin/config": super::meta::culvert::plugin::config,
        },
    });

    use wasmtime::component::{ComponentType, Lower};

    /// `transform-columns.columns`, borrowed: what bindings would make of it owns its columns, which would cost a copy of
    /// each batch.
    #[derive(ComponentType, Lower)]
    #[component(record)]
    pub struct Shown<'a> {
        pub stream: &'a str,
        pub topic: &'a str,
        pub partition: u32,
        pub from: u64,
        pub to: u64,
        pub sequences: &'a [u64],
        pub attributes: &'a [(&'a str, &'a str)],
        pub count: u32,
        pub absent: &'a [u8],
        pub timestamps: &'a [i64],
        #[component(name = "key-ends")]
        pub key_ends: &'a [u32],
        pub keys: &'a [u8],
        #[component(name = "value-ends")]
        pub value_ends: &'a [u32],
        pub values: &'a [u8],
        #[component(name = "header-ends")]
        pub header_ends: &'a [u32],
        pub headers: &'a [u8],
    }
}

/// Codecs.
pub mod codec {
    wasmtime::component::bindgen!({
        path: "../../wit/culvert-plugin",
        inline: "
            package culvert:host;
            world codecs { export culvert:plugin/codec@0.1.0; }
        ",
        world: "culvert:host/codecs",
        with: {
            "culvert:plugin/types": super::meta::culvert::plugin::types,
            "culvert:plugin/config": super::meta::culvert::plugin::config,
        },
    });

    use wasmtime::component::{ComponentType, Lower};

    /// `codec.payloads`, borrowed, as [`super::columns::Shown`] is.
    #[derive(ComponentType, Lower)]
    #[component(record)]
    pub struct Shown<'a> {
        pub ends: &'a [u32],
        pub bytes: &'a [u8],
    }
}

/// Sources.
pub mod source {
    wasmtime::component::bindgen!({
        path: "../../wit/culvert-plugin",
        inline: "
            package culvert:host;
            world source { export culvert:plugin/source@0.1.0; }
        ",
        world: "culvert:host/source",
        with: {
            "culvert:plugin/types": super::meta::culvert::plugin::types,
            "culvert:plugin/config": super::meta::culvert::plugin::config,
        },
    });
}

/// Sinks.
pub mod sink {
    wasmtime::component::bindgen!({
        path: "../../wit/culvert-plugin",
        inline: "
            package culvert:host;
            world sink { export culvert:plugin/sink@0.1.0; }
        ",
        world: "culvert:host/sink",
        with: {
            "culvert:plugin/types": super::meta::culvert::plugin::types,
            "culvert:plugin/config": super::meta::culvert::plugin::config,
        },
    });
}

/// What a plugin may import.
pub mod capabilities {
    wasmtime::component::bindgen!({
        path: "../../wit/culvert-plugin",
        inline: "
            package culvert:host;
            world capabilities {
                import culvert:plugin/log@0.1.0;
                import culvert:plugin/metrics@0.1.0;
                import culvert:plugin/clock@0.1.0;
                import culvert:plugin/secrets@0.1.0;
                import culvert:plugin/secrets-reveal@0.1.0;
                import culvert:plugin/http@0.1.0;
                import culvert:plugin/files@0.1.0;
                import culvert:plugin/state@0.1.0;
            }
        ",
        world: "culvert:host/capabilities",
        imports: { default: trappable },
        with: { "culvert:plugin/secrets.secret": crate::capability::secrets::Handle },
    });
}

pub use meta::culvert::plugin::{config, types};
