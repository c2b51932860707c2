#include "fake-value.h"

#include <algorithm>
#include <cstring>

#include <capstan/client/compute-wire.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>

#include "fake-server.h"

namespace capstan::client {

kj::Maybe<Error> enterFake(FakeTree& tree, const char* method) {
  ++tree.calls[method];
  if (tree.before) return tree.before(method, {});
  return nullptr;
}

Error wrongOperand(std::string sentence) { return {ErrorCode::INVALID_ARGUMENT, std::move(sentence), {}}; }

ComputedValue valueOf(Elements elements, bool single) {
  uint64_t count = std::visit([](auto& list) { return list.size(); }, elements);
  ElementType type = typeOf(elements);
  Encoding encoding = type == ElementType::TEXT ? Encoding::LINES : Encoding::BINARY;
  return {{type, count, single, encoding, count * 8}, std::move(elements)};
}

ComputedValue valueOf(Number number) {
  if (auto integer = std::get_if<int64_t>(&number)) return valueOf(Elements(std::vector<int64_t>{*integer}), true);
  return valueOf(Elements(std::vector<double>{std::get<double>(number)}), true);
}

namespace {

std::string encoded(const Elements& elements, Encoding encoding) {
  return std::visit(
      [&](auto& list) {
        std::string bytes;
        for (auto& element : list) {
          if constexpr (std::is_same_v<std::decay_t<decltype(element)>, std::string>) {
            bytes += element + "\n";
          } else if (encoding == Encoding::BINARY) {
            bytes.append(reinterpret_cast<const char*>(&element), sizeof(element));
          } else {
            bytes += formatNumber(Number(element)) + "\n";
          }
        }
        return bytes;
      },
      elements);
}

}  // namespace

Computed decoded(std::string_view bytes, ElementType type, Encoding encoding) {
  std::vector<int64_t> ints;
  std::vector<double> floats;
  std::vector<std::string> texts;
  for (; encoding == Encoding::BINARY && bytes.size() >= 8; bytes.remove_prefix(8)) {
    ints.emplace_back();
    floats.emplace_back();
    memcpy(&ints.back(), bytes.data(), 8);
    memcpy(&floats.back(), bytes.data(), 8);
  }
  while (!bytes.empty()) {
    std::string line(bytes.substr(0, bytes.find('\n')));
    bytes.remove_prefix(std::min(bytes.size(), line.size() + 1));
    if (type == ElementType::INT && !parseInt(line)) return wrongOperand("'" + line + "' is not an integer");
    if (type == ElementType::FLOAT && !parseFloat(line)) return wrongOperand("'" + line + "' is not a number");
    ints.push_back(parseInt(line).value_or(0));
    floats.push_back(parseFloat(line).value_or(0));
    texts.push_back(line);
  }
  if (type == ElementType::INT) return valueOf(Elements(std::move(ints)));
  if (type == ElementType::FLOAT) return valueOf(Elements(std::move(floats)));
  return valueOf(Elements(std::move(texts)));
}

namespace {

kj::Promise<void> sendTo(schema::ByteSink::Client sink, std::string bytes, uint64_t* count) {
  if (bytes.empty()) return kj::READY_NOW;
  std::string chunk = bytes.substr(0, 64 << 10);
  auto request = sink.writeRequest();
  request.setData(rpc::asData(chunk));
  if (count != nullptr) *count += chunk.size();
  return request.send().then(
      [sink, rest = bytes.substr(chunk.size()), count]() mutable { return sendTo(sink, std::move(rest), count); });
}

class FakeValue final : public schema::Value::Server {
 public:
  FakeValue(FakeTree& tree, kj::Promise<Computed> computing) : tree(tree), computed(computing.fork()) {
    settled = computed.addBranch().then([this](Computed) { ready = true; }).eagerlyEvaluate(nullptr);
  }

  kj::Promise<void> describe(DescribeContext context) override {
    return computed.addBranch().then([context](Computed value) mutable {
      if (value.ok()) {
        write(context.getResults().initInfo(), value->info);
      } else {
        rpc::setError(context.getResults().initOutcome(), value.error());
      }
    });
  }

  kj::Promise<void> progress(ProgressContext context) override {
    KJ_IF_MAYBE (error, enterFake(tree, "Value.progress")) {
      return rpc::exceptionFromError(*error);
    }
    auto results = context.getResults();
    results.setDone(ready ? 2 : 1);
    results.setTotal(2);
    results.setReady(ready);
    return kj::READY_NOW;
  }

  kj::Promise<void> read(ReadContext context) override {
    return computed.addBranch().then([this, context](Computed value) mutable {
      auto results = context.getResults();
      if (value.ok() && context.getParams().getCount() == 0 && value->info.bytes > tree.computing.readLimit)
        value = Error{ErrorCode::TOO_LARGE, "too large for one message", {}};
      if (!value.ok()) return rpc::setError(results.initOutcome(), value.error());
      writeElements(results.initElements(), value->elements);
      write(results.initInfo(), value->info);
      results.setAtEnd(true);
      if (context.getParams().getCount() == 0) tree.computing.bytesToClient += value->info.bytes;
    });
  }

  kj::Promise<void> stream(StreamContext context) override {
    ++tree.calls["Value.stream"];
    return computed.addBranch().then([this, context](Computed value) mutable -> kj::Promise<void> {
      if (!value.ok()) {
        rpc::setError(context.getResults().initOutcome(), value.error());
        return kj::READY_NOW;
      }
      write(context.getResults().initInfo(), value->info);
      auto sink = context.getParams().getSink();
      std::string bytes = encoded(value->elements, Encoding(context.getParams().getEncoding()));
      return sendTo(sink, std::move(bytes), &tree.computing.bytesToClient).then([sink]() mutable {
        return sink.endRequest().send().ignoreResult();
      });
    });
  }

  kj::Promise<void> save(SaveContext context) override {
    ++tree.calls["Value.save"];
    return computed.addBranch().then([context](Computed value) mutable -> kj::Promise<void> {
      if (!value.ok()) {
        rpc::setError(context.getResults().initOutcome(), value.error());
        return kj::READY_NOW;
      }
      auto upload = context.getParams().getUpload();
      std::string bytes = encoded(value->elements, Encoding(context.getParams().getEncoding()));
      return sendTo(upload, std::move(bytes), nullptr)
          .then([upload]() mutable { return upload.commitRequest().send(); })
          .then([context](capnp::Response<schema::Upload::CommitResults>&& response) mutable {
            context.getResults().setOutcome(response.getOutcome());
            context.getResults().setEntry(response.getEntry());
          });
    });
  }

 private:
  FakeTree& tree;
  kj::ForkedPromise<Computed> computed;
  bool ready = false;
  kj::Promise<void> settled = nullptr;

  static void write(schema::ValueInfo::Builder to, const ValueInfo& info) {
    to.setType(schema::ElementType(info.type));
    to.setCount(info.count);
    to.setSingle(info.single);
    to.setEncoding(schema::Encoding(info.encoding));
    to.setBytes(info.bytes);
  }
};

class FakeCollector final : public schema::ByteSink::Server {
 public:
  FakeCollector(FakeTree& tree, ElementType type, Encoding encoding, kj::Own<kj::PromiseFulfiller<Computed>> fulfiller)
      : tree(tree), type(type), encoding(encoding), fulfiller(kj::mv(fulfiller)) {}
  ~FakeCollector() noexcept(false) {
    if (fulfiller->isWaiting()) fulfiller->fulfill(Error{ErrorCode::CANCELLED, "cut off", {}});
  }

  kj::Promise<void> write(WriteContext context) override {
    KJ_IF_MAYBE (error, enterFake(tree, "collect.write")) {
      return rpc::exceptionFromError(*error);
    }
    bytes += rpc::asView(context.getParams().getData());
    return kj::READY_NOW;
  }
  kj::Promise<void> skip(SkipContext context) override {
    bytes.append(context.getParams().getCount(), '\0');
    return kj::READY_NOW;
  }
  kj::Promise<void> end(EndContext context) override {
    context.initResults();
    fulfiller->fulfill(decoded(bytes, type, encoding));
    return kj::READY_NOW;
  }

 private:
  FakeTree& tree;
  const ElementType type;
  const Encoding encoding;
  kj::Own<kj::PromiseFulfiller<Computed>> fulfiller;
  std::string bytes;
};

}  // namespace

schema::Value::Client newFakeValue(FakeTree& tree, kj::Promise<Computed> computing) {
  return kj::heap<FakeValue>(tree, kj::mv(computing));
}

schema::ByteSink::Client newFakeCollector(FakeTree& tree, ElementType type, Encoding encoding,
                                          kj::Own<kj::PromiseFulfiller<Computed>> fulfiller) {
  return kj::heap<FakeCollector>(tree, type, encoding, kj::mv(fulfiller));
}

}  // namespace capstan::client
