// The protocol as the schema has it, for tests that leave nothing out: every interface that can be reached from a
// Session, every method of it, and every place for a path in what a method takes.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include <capnp/dynamic.h>
#include <capnp/schema.h>

#include <capstan/schema/gateway.capnp.h>

namespace capstan::server {

// How to come to a field in the parameters of a method: names of fields, lists being entered at their first element.
using Trail = std::vector<std::string>;
std::string textOf(const Trail& trail);

// Names of fields that hold paths: whoever adds one says so here.
inline const std::set<std::string> PATHS = {"path", "from", "to"};
// Implemented by clients.
inline const std::set<std::string> CLIENTS = {"Watcher", "JobListener"};

class Protocol {
 public:
  Protocol() { add(capnp::Schema::from<schema::Session>()); }

  // By their short names.
  const std::map<std::string, capnp::InterfaceSchema>& interfaces() const { return found; }

  // Its own methods, and those of what it extends.
  static std::vector<capnp::InterfaceSchema::Method> methodsOf(capnp::InterfaceSchema interface);
  // All fields of type Data in what the method takes.
  static std::vector<Trail> bytesIn(capnp::InterfaceSchema::Method method);
  static void set(capnp::DynamicStruct::Builder params, const Trail& trail, const std::string& bytes);
  // What holds the field at the end of the trail; it is made if it is missing.
  static capnp::DynamicStruct::Builder holderOf(capnp::DynamicStruct::Builder params, const Trail& trail);

 private:
  std::map<std::string, capnp::InterfaceSchema> found;
  std::map<uint64_t, bool> seen;

  void add(capnp::InterfaceSchema interface);
  void add(capnp::StructSchema structure);
  void add(capnp::Type type);
};

}  // namespace capstan::server
