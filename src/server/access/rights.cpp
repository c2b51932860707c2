#include <capstan/server/access/rights.h>

#include <unordered_map>
#include <vector>

#include <capnp/dynamic.h>

#include <capstan/schema/gateway.capnp.h>

namespace capstan::server {

namespace {

// The id of the annotation `needs` in schema/access.capnp, for which Cap'n Proto generates no constant.
constexpr uint64_t NEEDS_ID = 0xb3a1e6f0d95c4827;

struct NamedTerms {
  MethodTerms terms;
  kj::String name;
};

schema::Right rightOf(capnp::InterfaceSchema::Method method) {
  for (auto annotation : method.getProto().getAnnotations()) {
    if (annotation.getId() == NEEDS_ID) return static_cast<schema::Right>(annotation.getValue().getEnum());
  }
  return schema::Right::UNSET;
}

class Table {
 public:
  Table() { add(capnp::Schema::from<schema::Gateway>()); }

  const MethodTerms* find(uint64_t interfaceId, uint16_t methodId) const {
    auto found = interfaces.find(interfaceId);
    if (found == interfaces.end() || methodId >= found->second.size()) return nullptr;
    return &found->second[methodId].terms;
  }

 private:
  std::unordered_map<uint64_t, std::vector<NamedTerms>> interfaces;
  std::unordered_map<uint64_t, bool> seen;  // structs

  void add(capnp::InterfaceSchema interface) {
    uint64_t id = interface.getProto().getId();
    if (interfaces.contains(id)) return;
    auto& methods = interfaces[id];
    auto list = interface.getMethods();
    methods.resize(list.size());
    for (auto method : list) {
      auto& entry = methods[method.getOrdinal()];
      entry.name = kj::str(interface.getShortDisplayName(), '.', method.getProto().getName());
      entry.terms = {rightOf(method), method.isStreaming(), entry.name, method.getResultType()};
    }
    for (auto method : list) {
      add(method.getParamType());
      add(method.getResultType());
    }
    for (auto superclass : interface.getSuperclasses()) add(superclass);
  }

  void add(capnp::StructSchema structure) {
    if (!seen.emplace(structure.getProto().getId(), true).second) return;
    for (auto field : structure.getFields()) add(field.getType());
  }

  void add(capnp::Type type) {
    if (type.isList()) return add(type.asList().getElementType());
    if (type.isInterface()) return add(type.asInterface());
    if (type.isStruct()) return add(type.asStruct());
  }
};

}  // namespace

bool Rights::isWithin(const Rights& other) const {
  return (!write || other.write) && (!compute || other.compute) && (!own || other.own);
}

bool Rights::permit(schema::Right right) const {
  switch (right) {
    case schema::Right::NOTHING:
    case schema::Right::READ: return true;
    case schema::Right::WRITE: return write;
    case schema::Right::COMPUTE: return compute;
    case schema::Right::OWN:
    case schema::Right::UNSET: break;
  }
  return own;
}

Rights rightsFrom(schema::Rights::Reader from) { return {from.getWrite(), from.getCompute(), false}; }

void fillRights(schema::Rights::Builder to, const Rights& rights) {
  to.setWrite(rights.write);
  to.setCompute(rights.compute);
}

const MethodTerms* termsOf(uint64_t interfaceId, uint16_t methodId) {
  static const Table table;
  return table.find(interfaceId, methodId);
}

}  // namespace capstan::server
