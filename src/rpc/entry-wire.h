// Between the plain structs of base/entry.h and the schema, in both directions. Readers check what a peer sent: what
// has no meaning is an Error.
#pragma once

#include <capstan/base/entry.h>
#include <capstan/base/error.h>
#include <capstan/schema/files.capnp.h>

namespace capstan::rpc {

inline capnp::Data::Reader asData(std::string_view bytes) {
  return capnp::Data::Reader(reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size());
}
inline std::string_view asView(capnp::Data::Reader data) {
  return std::string_view(reinterpret_cast<const char*>(data.begin()), data.size());
}

void write(schema::Entry::Builder to, const Entry& entry);
Entry read(schema::Entry::Reader from);

void write(schema::Expectation::Builder to, const Expectation& expectation);
Expectation read(schema::Expectation::Reader from);

void write(schema::Attributes::Builder to, const Attributes& attributes);
Result<Attributes> read(schema::Attributes::Reader from);  // mode above 0o7777: invalidArgument

void write(schema::ContentCheck::Builder to, const ContentCheck& check);
Result<ContentCheck> read(
    schema::ContentCheck::Reader from);  // digest of the wrong length or algorithm: invalidArgument

}  // namespace capstan::rpc
