//! What wit-bindgen makes of the contract: one module for each interface, with a world of its own, so that roles share
//! one `meta` and one set of types. A component that exports several of these worlds exports all they hold, which is
//! what the contract's own worlds are.
//!
//! `wit/` is a link to the repository's contract; packaging the crate follows it, so that a published crate holds the
//! contract it was built with.

#![allow(
    missing_docs,
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::pedantic
)]
#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "made from the contract"
)]

pub mod shared {
    wit_bindgen::generate!({
        inline: "
            package culvert:sdk;
            world shared {
                import culvert:plugin/types@0.1.0;
                import culvert:plugin/config@0.1.0;
            }
        ",
        path: "wit",
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq],
    });
}

/// Only what a component really calls becomes an import of it.
pub mod capabilities {
    wit_bindgen::generate!({
        world: "culvert:plugin/capabilities@0.1.0",
        path: "wit",
    });
}

pub mod meta {
    wit_bindgen::generate!({
        inline: "
            package culvert:sdk;
            world meta {
                export culvert:plugin/meta@0.1.0;
            }
        ",
        path: "wit",
        with: {
            "culvert:plugin/types@0.1.0": crate::bindings::shared::culvert::plugin::types,
            "culvert:plugin/config@0.1.0": crate::bindings::shared::culvert::plugin::config,
        },
        pub_export_macro: true,
        default_bindings_module: "culvert_plugin::bindings::meta",
        additional_derives: [PartialEq],
    });
}

pub mod columns {
    wit_bindgen::generate!({
        inline: "
            package culvert:sdk;
            world columns {
                export culvert:plugin/transform-columns@0.1.0;
            }
        ",
        path: "wit",
        with: {
            "culvert:plugin/types@0.1.0": crate::bindings::shared::culvert::plugin::types,
            "culvert:plugin/config@0.1.0": crate::bindings::shared::culvert::plugin::config,
        },
        pub_export_macro: true,
        default_bindings_module: "culvert_plugin::bindings::columns",
        additional_derives: [PartialEq],
    });
}

pub mod codec {
    wit_bindgen::generate!({
        inline: "
            package culvert:sdk;
            world codec {
                export culvert:plugin/codec@0.1.0;
            }
        ",
        path: "wit",
        with: {
            "culvert:plugin/types@0.1.0": crate::bindings::shared::culvert::plugin::types,
            "culvert:plugin/config@0.1.0": crate::bindings::shared::culvert::plugin::config,
        },
        pub_export_macro: true,
        default_bindings_module: "culvert_plugin::bindings::codec",
        additional_derives: [PartialEq],
    });
}

pub mod source {
    wit_bindgen::generate!({
        inline: "
            package culvert:sdk;
            world source {
                export culvert:plugin/source@0.1.0;
            }
        ",
        path: "wit",
        with: {
            "culvert:plugin/types@0.1.0": crate::bindings::shared::culvert::plugin::types,
            "culvert:plugin/config@0.1.0": crate::bindings::shared::culvert::plugin::config,
        },
        pub_export_macro: true,
        default_bindings_module: "culvert_plugin::bindings::source",
        additional_derives: [PartialEq],
    });
}

pub mod sink {
    wit_bindgen::generate!({
        inline: "
            package culvert:sdk;
            world sink {
                export culvert:plugin/sink@0.1.0;
            }
        ",
        path: "wit",
        with: {
            "culvert:plugin/types@0.1.0": crate::bindings::shared::culvert::plugin::types,
            "culvert:plugin/config@0.1.0": crate::bindings::shared::culvert::plugin::config,
        },
        pub_export_macro: true,
        default_bindings_module: "culvert_plugin::bindings::sink",
        additional_derives: [PartialEq],
    });
}
