//! `docs::collection(name)`: documents, and questions about them.

use rhai::{Array, Dynamic, Engine, ImmutableString, Map, Module};
use shared::host_call::HostOp;
use shared::host_call::docs::{
    Counted, Create, Created, Deleted, Document, Find, Found, Id, Mode, Page, Update, Updated,
};
use shared::limits::DOCS_LIST_DEFAULT;

use crate::options::Options;
use crate::{Result, convert, failure, host};

/// The handle that scripts hold.
#[derive(Clone)]
struct Collection {
    name: ImmutableString,
}

pub(crate) fn register(engine: &mut Engine) {
    let mut module = Module::new();
    module.set_native_fn("collection", |name: ImmutableString| Ok(Collection { name }));
    engine.register_static_module("docs", module.into());
    engine.register_type_with_name::<Collection>("DocsCollection");
    engine.register_fn("create", |docs: &mut Collection, data: Map| docs.create(data));
    engine.register_fn("get", |docs: &mut Collection, id: &str| docs.get(id));
    engine.register_fn("find", |docs: &mut Collection, query: Map| docs.find(query));
    engine.register_fn("find_one", |docs: &mut Collection, query: Map| docs.find_one(query));
    engine.register_fn("update", |docs: &mut Collection, id: &str, data: Map| {
        docs.update(Mode::Replace, id, data, &Map::new())
    });
    engine.register_fn("update", |docs: &mut Collection, id: &str, data: Map, options: Map| {
        docs.update(Mode::Replace, id, data, &options)
    });
    engine.register_fn("patch", |docs: &mut Collection, id: &str, data: Map| {
        docs.update(Mode::Merge, id, data, &Map::new())
    });
    engine.register_fn("patch", |docs: &mut Collection, id: &str, data: Map, options: Map| {
        docs.update(Mode::Merge, id, data, &options)
    });
    engine.register_fn("delete", |docs: &mut Collection, id: &str| docs.delete(id));
    engine.register_fn("list", |docs: &mut Collection| docs.list(&Map::new()));
    engine.register_fn("list", |docs: &mut Collection, options: Map| docs.list(&options));
    engine.register_fn("count", |docs: &mut Collection| docs.count(Map::new()));
    engine.register_fn("count", |docs: &mut Collection, query: Map| docs.count(query));
}

impl Collection {
    fn create(&self, data: Map) -> Result<ImmutableString> {
        let data = convert::json_text(&data.into())?;
        let answer = host::call(HostOp::DocsCreate, &Create { collection: &self.name, data: &data })?;
        Ok(answer.read::<Created<'_>>().id.into())
    }

    fn get(&self, id: &str) -> Result<Dynamic> {
        let answer = host::call(HostOp::DocsGet, &Id { collection: &self.name, id })?;
        match answer.read::<Found<'_>>().document {
            Some(document) => map(&document),
            None => Ok(Dynamic::UNIT),
        }
    }

    /// Fails where a page ends before the limit: a script could not tell that there is more.
    fn find(&self, query: Map) -> Result<Array> {
        let asked = query.get("$limit").and_then(|limit| limit.as_int().ok());
        let limit = asked.unwrap_or(DOCS_LIST_DEFAULT.into());
        let (items, cursor) = self.page(query, "")?;
        if !cursor.is_unit() && (items.len() as i64) < limit {
            let message = format!(
                "find: the documents are more than fit into an answer, which has room for {}: ask for fewer by \
                 $limit, or for pages with list(#{{filter, sort, cursor}})",
                items.len()
            );
            return Err(failure("too_large", message));
        }
        Ok(items)
    }

    fn find_one(&self, mut query: Map) -> Result<Dynamic> {
        query.insert("$limit".into(), 1_i64.into());
        Ok(self.page(query, "")?.0.pop().unwrap_or(Dynamic::UNIT))
    }

    fn update(&self, mode: Mode, id: &str, data: Map, options: &Map) -> Result<Dynamic> {
        let function = match mode {
            Mode::Replace => "update",
            Mode::Merge => "patch",
        };
        let mut options = Options::new(function, options);
        let if_version = options.if_version()?;
        options.finish()?;
        let data = convert::json_text(&data.into())?;
        let update = Update { collection: &self.name, id, data: &data, mode, if_version };
        let Updated { version } = host::call(HostOp::DocsUpdate, &update)?.read();
        Ok(version.map_or(Dynamic::UNIT, |version| (version as i64).into()))
    }

    fn delete(&self, id: &str) -> Result<bool> {
        let Deleted { existed } = host::call(HostOp::DocsDelete, &Id { collection: &self.name, id })?.read();
        Ok(existed)
    }

    /// `list(#{filter, sort, limit, cursor})` → `#{items, cursor}`.
    fn list(&self, options: &Map) -> Result<Map> {
        let mut options = Options::new("list", options);
        let mut query = match options.value("filter") {
            Some(filter) => filter
                .clone()
                .try_cast::<Map>()
                .ok_or_else(|| failure("invalid_argument", "list: filter must be a map"))?,
            None => Map::new(),
        };
        for (name, member) in [("sort", "$sort"), ("limit", "$limit")] {
            if let Some(value) = options.value(name) {
                query.insert(member.into(), value.clone());
            }
        }
        let cursor = options.text("cursor")?.unwrap_or_default();
        options.finish()?;
        let (items, cursor) = self.page(query, &cursor)?;
        let mut page = Map::new();
        page.insert("items".into(), items.into());
        page.insert("cursor".into(), cursor);
        Ok(page)
    }

    fn count(&self, query: Map) -> Result<i64> {
        let query = convert::json_text(&query.into())?;
        let find = Find { collection: &self.name, query: &query, cursor: "" };
        let Counted { count } = host::call(HostOp::DocsCount, &find)?.read();
        Ok(count as i64)
    }

    fn page(&self, query: Map, cursor: &str) -> Result<(Array, Dynamic)> {
        let query = convert::json_text(&query.into())?;
        let find = Find { collection: &self.name, query: &query, cursor };
        let answer = host::call(HostOp::DocsFind, &find)?;
        let Page { documents, cursor } = answer.read();
        let items: Result<Array> = documents.iter().map(map).collect();
        Ok((items?, cursor.map_or(Dynamic::UNIT, Into::into)))
    }
}

/// `#{id, data, version, created_at, updated_at}`.
fn map(document: &Document<'_>) -> Result<Dynamic> {
    let mut map = Map::new();
    map.insert("id".into(), document.id.into());
    map.insert("data".into(), convert::from_json_text(document.data)?);
    map.insert("version".into(), (document.version as i64).into());
    map.insert("created_at".into(), document.created_at.into());
    map.insert("updated_at".into(), document.updated_at.into());
    Ok(map.into())
}
