#include "matrix.h"

namespace capstan::server {

namespace {

void collect(capnp::StructSchema structure, Trail trail, std::vector<Trail>& trails) {
  if (trail.size() > 6) return;  // structs that contain themselves
  for (auto field : structure.getFields()) {
    Trail inner = trail;
    inner.push_back(field.getProto().getName().cStr());
    auto type = field.getType();
    if (type.isList()) type = type.asList().getElementType();
    if (type.isData()) trails.push_back(inner);
    if (type.isStruct()) collect(type.asStruct(), inner, trails);
  }
}

}  // namespace

std::string textOf(const Trail& trail) {
  std::string text;
  for (auto& name : trail) text += (text.empty() ? "" : ".") + name;
  return text;
}

std::vector<capnp::InterfaceSchema::Method> Protocol::methodsOf(capnp::InterfaceSchema interface) {
  std::vector<capnp::InterfaceSchema::Method> methods;
  for (auto method : interface.getMethods()) methods.push_back(method);
  for (auto superclass : interface.getSuperclasses()) {
    for (auto& method : methodsOf(superclass)) methods.push_back(method);
  }
  return methods;
}

std::vector<Trail> Protocol::bytesIn(capnp::InterfaceSchema::Method method) {
  std::vector<Trail> trails;
  collect(method.getParamType(), {}, trails);
  return trails;
}

void Protocol::set(capnp::DynamicStruct::Builder params, const Trail& trail, const std::string& bytes) {
  holderOf(params, trail)
      .set(trail.back(), capnp::Data::Reader(reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size()));
}

capnp::DynamicStruct::Builder Protocol::holderOf(capnp::DynamicStruct::Builder params, const Trail& trail) {
  auto at = params;
  for (size_t i = 0; i + 1 < trail.size(); ++i) {
    auto field = at.getSchema().getFieldByName(trail[i]);
    if (field.getType().isList()) {
      bool isThere = at.has(field) && at.get(field).as<capnp::DynamicList>().size() > 0;
      auto list = (isThere ? at.get(field) : at.init(field, 1)).as<capnp::DynamicList>();
      at = list[0].as<capnp::DynamicStruct>();
    } else if (!at.has(field)) {
      at = at.init(field).as<capnp::DynamicStruct>();
    } else {
      at = at.get(field).as<capnp::DynamicStruct>();
    }
  }
  return at;
}

void Protocol::add(capnp::InterfaceSchema interface) {
  if (!found.emplace(interface.getShortDisplayName().cStr(), interface).second) return;
  for (auto method : interface.getMethods()) {
    add(method.getParamType());
    add(method.getResultType());
  }
  for (auto superclass : interface.getSuperclasses()) add(superclass);
}

void Protocol::add(capnp::StructSchema structure) {
  if (!seen.emplace(structure.getProto().getId(), true).second) return;
  for (auto field : structure.getFields()) add(field.getType());
}

void Protocol::add(capnp::Type type) {
  if (type.isList()) return add(type.asList().getElementType());
  if (type.isInterface()) return add(type.asInterface());
  if (type.isStruct()) return add(type.asStruct());
}

}  // namespace capstan::server
