-- A chapter's one-sentence description, below its title. In a book, Quarto hides it.
function Pandoc(doc)
  local description = doc.meta.description
  if description == nil then return doc end
  doc.meta["hide-description"] = true     -- the front page would show it a second time
  local first = doc.blocks[1]
  local titled = first and first.t == "Header" and first.level == 1
  local text = pandoc.utils.type(description) == "Blocks" and description or { pandoc.Para(description) }
  doc.blocks:insert(titled and 2 or 1, pandoc.Div(text, pandoc.Attr("", { "description" })))
  return doc
end
