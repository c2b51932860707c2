// Between elements in messages (schema::Elements, schema::ValueInfo) and the bytes that computing works on.
#pragma once

#include <string>

#include <capstan/schema/compute.capnp.h>
#include <capstan/server/compute/content.h>

namespace capstan::server::compute {

// A list that came in a message, as the bytes of a content.
struct LiteralElements {
  ElementType type = ElementType::UNSET;
  Encoding encoding = Encoding::UNSET;
  std::string bytes;
};
// Errors: invalidArgument (a text with a newline in it, by its index; a union member that this server does not know).
Result<LiteralElements> readLiteral(schema::Elements::Reader from);
// About what that takes.
size_t sizeOfLiteral(schema::Elements::Reader from);

// Some elements of a content, ready for a message.
struct ElementBlock {
  ElementType type = ElementType::UNSET;
  std::string numbers;             // binary
  std::vector<std::string> texts;  // of texts
  bool atEnd = false;
};
// As Value.read has it. May block unless content.inMemory().
Result<ElementBlock> readElements(const Content& content, uint64_t first, uint64_t count);

void write(schema::Elements::Builder to, const ElementBlock& block);
void write(schema::ValueInfo::Builder to, const ContentInfo& info);

}  // namespace capstan::server::compute
