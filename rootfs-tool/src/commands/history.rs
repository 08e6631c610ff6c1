//! `rootfs-tool history`.

use argh::{ArgsInfo, FromArgs};
use coracle_store::Digest;
use coracle_sys::Result;
use serde_json::{Value, json};

use super::{find, open};
use crate::filter::created;
use coracle_sys::table;
use coracle_sys::template::Template;
use coracle_sys::time;

/// Show how an image's layers came about, the topmost first. LAYER is a layer's diff id, SIZE that of its files.
#[derive(FromArgs, ArgsInfo)]
#[argh(subcommand, name = "history", example = "rootfs-tool history --no-trunc shell")]
pub(crate) struct History {
    /// print the layers' ids only
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// nothing is cut to the terminal
    #[argh(switch, long = "no-trunc")]
    no_trunc: bool,
    /// print each step by a Go template, or json for one object a line. Fields: ID Layer CreatedAt CreatedSince
    /// CreatedBy Comment Size Bytes
    #[argh(option, arg_name = "TEMPLATE")]
    format: Option<String>,
    /// print one JSON array
    #[argh(switch)]
    json: bool,
    /// sizes and times for people, which is the default; --human=false prints bytes and times as they are
    #[argh(switch, short = 'H')]
    #[allow(dead_code)] // it is so anyhow
    human: bool,
    /// the word for --human=false
    #[argh(switch, long = "no-human", hidden_help)]
    no_human: bool,
    /// the store: RW[:RO...]
    #[argh(option, arg_name = "DIR")]
    store: Option<String>,
    /// a name or an id
    #[argh(positional, arg_name = "image")]
    image: String,
}

impl History {
    /// Run it.
    pub(crate) fn run(self) -> Result<()> {
        let template = self.format.as_deref().filter(|f| *f != "table").map(Template::parse).transpose()?;
        let store = open(self.store.as_deref())?;
        let image = find(&store, &self.image)?;
        let sizes = store.layer_sizes(&image);
        let mut layers = image.diff_ids().iter().zip(sizes);
        let id = |id: &Digest| if self.no_trunc { id.to_string() } else { id.short() };
        let mut rows: Vec<Value> = Vec::new();
        for step in image.config.history.as_deref().unwrap_or_default() {
            let layer = if step.empty_layer == Some(true) { None } else { layers.next() };
            // A reproducible step does not tell: it is as old as the image is here.
            let own = step.created.clone().filter(|t| time::parse(t).is_some_and(|t| t > 0));
            let created = own.or_else(|| created(&image)).unwrap_or_default();
            let since = time::parse(&created).map_or_else(|| "N/A".to_owned(), |t| time::ago(t, time::now()));
            let size = layer.map_or(0, |(_, size)| size);
            rows.push(json!({
                "ID": "<missing>",
                "Layer": layer.map_or_else(|| "<missing>".to_owned(), |(diff_id, _)| id(diff_id)),
                "CreatedAt": created.clone(),
                "CreatedSince": if self.no_human { created.clone() } else { since },
                "CreatedBy": step.created_by.clone().unwrap_or_default(),
                "Comment": step.comment.clone().unwrap_or_default(),
                "Size": if self.no_human { size.to_string() } else { table::size(size) },
                "Bytes": size,
            }));
        }
        rows.reverse();
        // As docker has it: the image itself is what the last step made, and of those before there are none.
        if let Some(last) = rows.first_mut() {
            last["ID"] = id(&image.id()).into();
        }
        if self.json {
            coracle_sys::print::json(&Value::Array(rows), false);
        } else if let Some(template) = template {
            template.print(&rows)?;
        } else if self.quiet {
            rows.iter().for_each(|r| coracle_sys::say!("{}", r["Layer"].as_str().unwrap_or_default()));
        } else {
            let mut lines =
                vec![["LAYER", "CREATED", "CREATED BY", "SIZE", "COMMENT"].map(str::to_owned).to_vec()];
            let keys = ["Layer", "CreatedSince", "CreatedBy", "Size", "Comment"];
            lines.extend(
                rows.iter().map(|r| keys.map(|k| r[k].as_str().unwrap_or_default().to_owned()).to_vec()),
            );
            table::print(&lines, !self.no_trunc);
        }
        Ok(())
    }
}
