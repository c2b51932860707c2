// What methods need and what grants allow: the annotations in the schema as a table, so that every method of every
// interface is judged in one place.
#pragma once

#include <cstdint>

#include <capnp/schema.h>
#include <kj/string.h>

#include <capstan/schema/access.capnp.h>

namespace capstan::server {

// What a capability lets do besides reading.
struct Rights {
  bool write = false;
  bool compute = false;
  bool own = false;  // the owner's: nothing is withheld

  static Rights all() { return {true, true, true}; }
  // Whether each of these rights is among those of `other`.
  bool isWithin(const Rights& other) const;
  bool permit(schema::Right right) const;
  bool operator==(const Rights&) const = default;
};

Rights rightsFrom(schema::Rights::Reader from);
void fillRights(schema::Rights::Builder to, const Rights& rights);

// What the schema says of one method. Lives as long as the process.
struct MethodTerms {
  schema::Right needs = schema::Right::UNSET;
  bool isStreaming = false;
  kj::StringPtr name;  // "FileStore.put", for sentences
  capnp::StructSchema results;
};

// Of any interface that can be reached from Gateway; null: there is no such method. Thread-safe.
const MethodTerms* termsOf(uint64_t interfaceId, uint16_t methodId);

}  // namespace capstan::server
