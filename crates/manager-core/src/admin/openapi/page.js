// Shows /api/v1/openapi.json. Everything is put into the page as text, never as markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];

/** An element with text or children. */
function make(name, content, className) {
  const element = document.createElement(name);
  if (className) element.className = className;
  for (const part of [content ?? []].flat()) element.append(part);
  return element;
}

/** A schema in a few words: a type, a reference's name, or the fields. */
function outline(schema, document, depth = 0) {
  if (schema === true || schema === undefined || Object.keys(schema).length === 0) return "anything";
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    const target = document.components.schemas[name];
    return depth < 4 && target ? outline(target, document, depth) : name;
  }
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.map((choice) => outline(choice, document, depth)).join(" | ");
  if (schema.properties) {
    const pad = "  ".repeat(depth + 1);
    const lines = Object.entries(schema.properties).map(([name, field]) => {
      const mark = (schema.required ?? []).includes(name) ? "" : "?";
      const words = field.description ? `  // ${field.description.replaceAll("\n", " ")}` : "";
      return `${pad}${name}${mark}: ${outline(field, document, depth + 1)}${words}`;
    });
    return `{\n${lines.join("\n")}\n${"  ".repeat(depth)}}`;
  }
  const types = [schema.type ?? "anything"].flat();
  const shown = types.map((type) => {
    if (type === "array") return `[${outline(schema.items, document, depth)}]`;
    return schema.format && type !== "null" ? `${type} (${schema.format})` : type;
  });
  return shown.join(" | ");
}

function parameters(operation) {
  const rows = operation.parameters.map((parameter) =>
    make("tr", [
      make("td", make("code", parameter.name + (parameter.required ? "" : "?"))),
      make("td", parameter.in),
      make("td", parameter.description ?? ""),
    ]),
  );
  return [make("h3", "Parameters"), make("table", rows)];
}

function body(content, api) {
  return Object.entries(content).map(([type, { schema }]) =>
    make("div", [make("code", type), make("pre", outline(schema, api))]),
  );
}

function details(path, method, operation, api) {
  const parts = [];
  if (operation["x-capability"]) parts.push(make("p", ["Needs ", make("code", operation["x-capability"]), "."]));
  if (operation.security.length === 0) parts.push(make("p", "Needs no credential."));
  if (operation.parameters) parts.push(...parameters(operation));
  if (operation.requestBody) parts.push(make("h3", "Body"), ...body(operation.requestBody.content, api));
  parts.push(make("h3", "Answers"));
  for (const [status, given] of Object.entries(operation.responses)) {
    const answer = given.$ref ? api.components.responses[given.$ref.split("/").pop()] : given;
    parts.push(make("p", [make("strong", status), ` ${answer.description}`]));
    const good = status.startsWith("2");
    if (good && answer.content) parts.push(...body(answer.content, api));
  }
  return make("div", parts);
}

function entry(path, method, operation, api) {
  const element = make("details");
  element.id = operation.operationId;
  element.dataset.words = `${method} ${path} ${operation.summary}`.toLowerCase();
  element.append(
    make("summary", [make("span", method.toUpperCase(), `method ${method}`), make("code", path), ` ${operation.summary}`]),
  );
  // Made when it is opened: a hundred operations with their fields are a lot of text.
  element.addEventListener("toggle", () => {
    if (element.open && element.children.length === 1) element.append(details(path, method, operation, api));
  });
  return element;
}

function show(api) {
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((method) => item[method])) {
      const tag = item[method].tags[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(entry(path, method, item[method], api));
    }
  }
  const main = document.getElementById("operations");
  main.replaceChildren(make("p", api.info.description, "words"));
  for (const [tag, entries] of groups) main.append(make("section", [make("h2", tag), ...entries]));
  document.getElementById("version").textContent = api.info.version;
  const asked = document.getElementById(location.hash.slice(1));
  if (asked) {
    asked.open = true;
    asked.scrollIntoView();
  }
}

function search(words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of document.querySelectorAll("section")) {
    let seen = 0;
    for (const element of section.querySelectorAll("details")) {
      const fits = wanted.every((word) => element.dataset.words.includes(word));
      element.hidden = !fits;
      seen += fits;
    }
    section.hidden = seen === 0;
  }
}

document.getElementById("search").addEventListener("input", (event) => search(event.target.value));
fetch("/api/v1/openapi.json")
  .then((answer) => answer.json())
  .then(show)
  .catch((error) => {
    document.getElementById("operations").textContent = `The document could not be read: ${error}`;
  });
