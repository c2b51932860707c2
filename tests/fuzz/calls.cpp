// Every interface, by reflection: the input chooses capabilities, methods and arguments of whatever the schema has, the
// Gateway first and then all that can be reached from it. A method that is added to the schema is called without a
// change here. Arguments are right or wrong, numbers at their edges, paths that lead out, versions and cursors that
// were answered before, and capabilities: the server's own, of another kind than is wanted, broken, promised, and
// local ones that misbehave.
#include <algorithm>
#include <deque>
#include <vector>

#include <capnp/dynamic.h>
#include <kj/debug.h>

#include "hostile-guest.h"

namespace capstan::fuzz {
namespace {

using capnp::DynamicCapability;
using capnp::DynamicEnum;
using capnp::DynamicList;
using capnp::DynamicStruct;
using capnp::DynamicValue;
using capnp::InterfaceSchema;
using capnp::StructSchema;
using capnp::Type;

constexpr unsigned MAX_STEPS = 48;
constexpr unsigned MAX_DEPTH = 6;
constexpr size_t MAX_CAPABILITIES = 64;
constexpr size_t MAX_PENDING = 64;
constexpr size_t MAX_WORDS_KNOWN = 64;
constexpr kj::Duration PATIENCE = 4 * kj::MILLISECONDS;

DynamicCapability::Client dynamic(capnp::Capability::Client capability, InterfaceSchema schema) {
  return capability.castAs<DynamicCapability>(schema);
}

// How a capability of ours behaves when the server calls it.
enum class Manner : uint8_t {
  ANSWER,
  FAIL,
  FAIL_AS_ERROR,
  FAIL_WITH_NO_TYPE,
  DISCONNECT,
  NEVER,
  LATER,
  FAIL_LATER,
  COUNT
};

// Of any interface; shared by nothing, so that it may outlive the input that made it by a turn of the loop.
class LocalServer final : public DynamicCapability::Server {
 public:
  LocalServer(InterfaceSchema schema, Manner manner, unsigned good) : Server(schema), manner(manner), good(good) {}

  kj::Promise<void> call(InterfaceSchema::Method, capnp::CallContext<DynamicStruct, DynamicStruct> context) override {
    if (good > 0) {
      --good;
      return kj::READY_NOW;
    }
    switch (manner) {
      case Manner::FAIL: return KJ_EXCEPTION(FAILED, "no\n2026-01-01 info: all is well\x1b[2J");
      case Manner::FAIL_AS_ERROR: return KJ_EXCEPTION(FAILED, "[no-space] \x07the disk is full");
      case Manner::FAIL_WITH_NO_TYPE: return kj::Exception(kj::Exception::Type(0x7f7f), "x", 1, kj::str("no type"));
      case Manner::DISCONNECT: return KJ_EXCEPTION(DISCONNECTED, "gone");
      case Manner::NEVER: context.allowCancellation(); return kj::NEVER_DONE;
      case Manner::LATER: return kj::evalLast([]() {});
      case Manner::FAIL_LATER:
        return kj::evalLast([]() { kj::throwFatalException(KJ_EXCEPTION(OVERLOADED, "later")); });
      case Manner::ANSWER:
      case Manner::COUNT: break;
    }
    return kj::READY_NOW;
  }

 private:
  const Manner manner;
  unsigned good;  // calls that are answered first
};

class Caller {
 public:
  Caller(House& house, Choices choices) : house(house), choices(choices), guest(house.dial()) {}

  void run() {
    auto gateway = guest.gateway();
    add(dynamic(gateway, capnp::Schema::from<schema::Gateway>()));
    if (!choices.chance(8)) logIn(gateway);
    for (unsigned step = 0; step < MAX_STEPS && !choices.atEnd(); ++step) takeStep();
    // What is under way gets a moment; what never ends is cut off with the connection, which is a step too.
    if (!choices.chance(4)) settle(PATIENCE);
  }

 private:
  struct Pending {
    capnp::StructSchema results;
    kj::Promise<void> done;
  };

  House& house;
  Choices choices;
  Guest guest;
  std::deque<std::string> known{"",
                                "a",
                                "d",
                                "d/f",
                                "in",
                                "out",
                                "out/secret",
                                "abs",
                                "new",
                                "d/new",
                                ".capstan",
                                ".capstan/x",
                                "..",
                                "d/../..",
                                "/etc/passwd",
                                "out/new",
                                "in/x",
                                "1\n2\n3\n",
                                std::string(16, '\0')};
  std::vector<DynamicCapability::Client> capabilities;
  std::vector<kj::Own<kj::PromiseFulfiller<capnp::Capability::Client>>> promised;
  std::deque<Pending> pending;

  void add(DynamicCapability::Client capability) {
    if (capabilities.size() == MAX_CAPABILITIES) capabilities.erase(capabilities.begin() + 1);
    capabilities.push_back(kj::mv(capability));
  }

  void learn(std::string_view word) {
    if (word.empty() || word.size() > 512) return;
    if (known.size() == MAX_WORDS_KNOWN) known.erase(known.begin() + 20);
    known.emplace_back(word);
  }

  // The usual way in, so that inputs need not find it.
  void logIn(schema::Gateway::Client gateway) {
    auto login = gateway.loginRequest();
    login.setClient("fuzz\x1b]0;x\n");
    auto session = login.send().getSession();
    add(dynamic(session, capnp::Schema::from<schema::Session>()));
    add(dynamic(session.fileStoreRequest().send().getFileStore(), capnp::Schema::from<schema::FileStore>()));
    add(dynamic(session.computeRequest().send().getCompute(), capnp::Schema::from<schema::Compute>()));
  }

  void takeStep() {
    unsigned kind = choices.below(16);
    if (kind < 11) return callSomething();
    if (kind == 11 && !pending.empty()) {
      pending.erase(pending.begin() + choices.below(unsigned(pending.size())));  // is not interested any more
    } else if (kind == 12 && capabilities.size() > 1) {
      capabilities.erase(capabilities.begin() + choices.below(unsigned(capabilities.size())));
    } else if (kind == 13 && !promised.empty()) {
      keepPromise();
    } else if (kind == 14) {
      kj::evalLast([]() {}).wait(house.waitScope());
    } else {
      settle(PATIENCE);
    }
  }

  void keepPromise() {
    auto fulfiller = kj::mv(promised.back());
    promised.pop_back();
    if (choices.chance(4)) return;  // it never will be
    if (choices.chance(4)) return fulfiller->reject(KJ_EXCEPTION(FAILED, "a promise that was broken\n"));
    fulfiller->fulfill(kj::cp(anyCapability()));
  }

  DynamicCapability::Client& anyCapability() { return capabilities[choices.below(unsigned(capabilities.size()))]; }

  void settle(kj::Duration patience) {
    kj::Vector<kj::Promise<void>> all;
    for (auto& each : pending) all.add(kj::mv(each.done));
    pending.clear();
    house.finishes(kj::joinPromises(all.releaseAsArray()), patience);
  }

  void callSomething() {
    auto capability = anyCapability();
    auto interface = capability.getSchema();
    // Of another kind: the server has to notice.
    if (choices.chance(32)) interface = anyCapability().getSchema();
    auto methods = methodsOf(interface);
    auto method = methods[choices.below(unsigned(methods.size()))];
    auto request = dynamic(capability, method.getContainingInterface()).newRequest(method);
    fill(request, method.getParamType(), 0);
    auto results = method.getResultType();
    auto answer = request.send();
    DynamicStruct::Pipeline& pipeline = answer;
    for (auto field : results.getFields()) {
      if (field.getType().isInterface()) add(pipeline.get(field).releaseAs<DynamicCapability>());
    }
    if (pending.size() == MAX_PENDING) pending.pop_front();
    pending.push_back({results, answer
                                    .then([this](capnp::Response<DynamicStruct>&& response) { look(response); },
                                          [](kj::Exception&& exception) { expectFromServer(exception); })
                                    .eagerlyEvaluate([](kj::Exception&& exception) {
                                      fail("answers can be read", __FILE__, __LINE__,
                                           exception.getDescription().cStr());
                                    })});
  }

  static std::vector<InterfaceSchema::Method> methodsOf(InterfaceSchema interface) {
    std::vector<InterfaceSchema::Method> methods;
    for (auto method : interface.getMethods()) methods.push_back(method);
    for (auto super : interface.getSuperclasses()) {
      auto inherited = methodsOf(super);
      methods.insert(methods.end(), inherited.begin(), inherited.end());
    }
    return methods;
  }

  // A bug of ours at the server comes as what KJ_ASSERT, a system call that was not expected to fail, or the standard
  // library says.
  static void expectFromServer(const kj::Exception& exception) {
    expectKnown(exception);
    std::string_view text(exception.getDescription().cStr());
    for (std::string_view bug :
         {"std::exception", "basic_string", "vector::", "std::bad", "bad_variant", "expected false"}) {
      if (text.find(bug) != text.npos) fail("an exception is one of the known", __FILE__, __LINE__, text.data());
    }
  }

  // Texts and data of an answer are kept for later calls: names, versions, cursors.
  void look(DynamicStruct::Reader answer) {
    for (auto field : answer.getSchema().getNonUnionFields()) look(answer.get(field));
    KJ_IF_MAYBE (field, answer.which()) {
      look(answer.get(*field));
    }
  }

  void look(DynamicValue::Reader value) {
    switch (value.getType()) {
      case DynamicValue::TEXT: {
        auto text = value.as<capnp::Text>();
        learn({text.begin(), text.size()});
        break;
      }
      case DynamicValue::DATA: {
        auto data = value.as<capnp::Data>();
        learn({reinterpret_cast<const char*>(data.begin()), data.size()});
        break;
      }
      case DynamicValue::STRUCT: look(value.as<DynamicStruct>()); break;
      case DynamicValue::LIST: {
        unsigned count = 0;
        for (auto element : value.as<DynamicList>()) {
          if (++count > 8) break;
          look(element);
        }
        break;
      }
      default: break;
    }
  }

  void fill(DynamicStruct::Builder to, StructSchema schema, unsigned depth) {
    auto alternatives = schema.getUnionFields();
    if (alternatives.size() > 0) {
      auto field = alternatives[choices.below(alternatives.size())];
      fillField(to, field, depth);
    }
    for (auto field : schema.getNonUnionFields()) {
      if (choices.chance(4)) continue;  // as it is by default
      fillField(to, field, depth);
    }
  }

  void fillField(DynamicStruct::Builder to, StructSchema::Field field, unsigned depth) {
    auto type = field.getType();
    if (type.isStruct()) {
      if (depth < MAX_DEPTH) fill(to.init(field).as<DynamicStruct>(), type.asStruct(), depth + 1);
    } else if (type.isList()) {
      unsigned size = listSize();
      if (depth < MAX_DEPTH) fill(to.init(field, size).as<DynamicList>(), type.asList(), depth + 1);
    } else if (type.isInterface()) {
      if (!choices.chance(16)) to.set(field, capabilityFor(type.asInterface()));
    } else if (!type.isAnyPointer()) {
      to.set(field, simple(type));
    }
  }

  void fill(DynamicList::Builder to, capnp::ListSchema schema, unsigned depth) {
    auto type = schema.getElementType();
    for (unsigned i = 0; i < to.size(); ++i) {
      if (type.isStruct()) {
        fill(to[i].as<DynamicStruct>(), type.asStruct(), depth + 1);
      } else if (type.isList()) {
        fill(to.init(i, listSize()).as<DynamicList>(), type.asList(), depth + 1);
      } else if (type.isInterface()) {
        to.set(i, capabilityFor(type.asInterface()));
      } else if (!type.isAnyPointer()) {
        to.set(i, simple(type));
      }
    }
  }

  unsigned listSize() { return choices.chance(32) ? choices.below(5000) : choices.below(5); }

  DynamicCapability::Client capabilityFor(InterfaceSchema wanted) {
    switch (choices.below(8)) {
      case 0: return dynamic(kj::cp(anyCapability()), wanted);  // perhaps of another kind
      case 1: return dynamic(capnp::Capability::Client(KJ_EXCEPTION(FAILED, "broken from the beginning\n")), wanted);
      case 2: {
        auto paf = kj::newPromiseAndFulfiller<capnp::Capability::Client>();
        promised.push_back(kj::mv(paf.fulfiller));
        return dynamic(capnp::Capability::Client(kj::mv(paf.promise)), wanted);
      }
      case 3:
      case 4: {
        auto manner = Manner(choices.below(unsigned(Manner::COUNT)));
        return kj::heap<LocalServer>(wanted, manner, choices.below(4));
      }
      default: break;
    }
    // The latest that fits, else one of ours that is well-behaved.
    for (size_t i = capabilities.size(); i-- > 0;) {
      if (capabilities[i].getSchema().extends(wanted)) return dynamic(kj::cp(capabilities[i]), wanted);
    }
    return kj::heap<LocalServer>(wanted, Manner::ANSWER, 0);
  }

  uint64_t integer() {
    static constexpr uint64_t EDGES[] = {0,         1,          2,          255,           256,       4095,
                                         4096,      65535,      1u << 20,   1u << 24,      INT32_MAX, UINT32_MAX,
                                         INT64_MAX, 1ull << 63, UINT64_MAX, UINT64_MAX - 1};
    unsigned choice = choices.below(24);
    if (choice < std::size(EDGES)) return EDGES[choice];
    return choice < 22 ? choices.byte() : choices.number();
  }

  double real() {
    static constexpr double EDGES[] = {
        0, -0.0, 1e308, -1e308, 5e-324, __builtin_inf(), -__builtin_inf(), __builtin_nan("")};
    if (unsigned choice = choices.below(16); choice < std::size(EDGES)) return EDGES[choice];
    uint64_t bits = choices.number();
    double value;
    memcpy(&value, &bits, sizeof(value));
    return value;
  }

  // Bytes that stay where they are until the input is done with.
  std::string_view word() {
    unsigned choice = choices.below(8);
    if (choice == 0) return choices.bytes(choices.below(64));
    if (choice == 1) {
      static const std::string LARGE(300'000, '7');
      return std::string_view(LARGE).substr(0, choices.chance(4) ? LARGE.size() : choices.below(5000));
    }
    if (choice < 4) return known[known.size() - 1 - choices.below(unsigned(std::min<size_t>(known.size(), 8)))];
    return known[choices.below(unsigned(known.size()))];
  }

  DynamicValue::Reader simple(Type type) {
    switch (type.which()) {
      case capnp::schema::Type::BOOL: return bool(choices.below(2));
      case capnp::schema::Type::INT8: return int8_t(integer());
      case capnp::schema::Type::INT16: return int16_t(integer());
      case capnp::schema::Type::INT32: return int32_t(integer());
      case capnp::schema::Type::INT64: return int64_t(integer());
      case capnp::schema::Type::UINT8: return uint8_t(integer());
      case capnp::schema::Type::UINT16: return uint16_t(integer());
      case capnp::schema::Type::UINT32: return uint32_t(integer());
      case capnp::schema::Type::UINT64: return integer();
      case capnp::schema::Type::FLOAT32: return float(real());
      case capnp::schema::Type::FLOAT64: return real();
      case capnp::schema::Type::ENUM: {
        unsigned count = type.asEnum().getEnumerants().size();
        unsigned number = choices.chance(16) ? unsigned(uint16_t(integer())) : choices.below(count);
        return DynamicEnum(type.asEnum(), uint16_t(number));
      }
      case capnp::schema::Type::TEXT: {
        auto bytes = word();
        texts.push_back(kj::heapString(bytes.data(), bytes.size()));
        return capnp::Text::Reader(texts.back());
      }
      case capnp::schema::Type::DATA: {
        auto bytes = word();
        return capnp::Data::Reader(reinterpret_cast<const kj::byte*>(bytes.data()), bytes.size());
      }
      default: return capnp::VOID;
    }
  }

  std::deque<kj::String> texts;  // with the NUL that a Text wants behind it
};

}  // namespace
}  // namespace capstan::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace capstan::fuzz;
  House& house = House::get();
  house.tidy();
  { Caller(house, Choices(data, size)).run(); }
  house.check();
  return 0;
}
