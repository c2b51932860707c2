#include <capstan/client/compute-calls.h>

#include <cstring>

#include <capstan/client/calls.h>
#include <capstan/client/compute-input.h>
#include <capstan/client/compute-wire.h>
#include <capstan/client/sink-server.h>
#include <capstan/rpc/entry-wire.h>

namespace capstan::client {

namespace {

using ReadResponse = capnp::Response<schema::Value::ReadResults>;
using StreamResponse = capnp::Response<schema::Value::StreamResults>;

class ComputationOrigin final : public ValueOrigin {
 public:
  explicit ComputationOrigin(Computation computation) : computation(std::move(computation)) {}

  kj::Promise<Result<schema::Value::Client>> start(Connection& connection) override {
    if (auto addition = std::get_if<Addition>(&computation)) {
      auto request = connection.compute().addRequest();
      auto operands = request.initOperands(addition->numbers.size());
      for (size_t i = 0; i < addition->numbers.size(); ++i) writeNumber(operands[i], addition->numbers[i]);
      return Result<schema::Value::Client>(request.send().getValue());
    }
    auto sorting = std::get_if<Sorting>(&computation);
    const ComputeInput& input = sorting != nullptr ? sorting->input : std::get<Reducing>(computation).input;
    return sendInput(connection, input)
        .then([this, &connection, sorting](Result<SentInput>&& sent) -> Result<schema::Value::Client> {
          if (!sent.ok()) return std::move(sent).error();
          if (sorting == nullptr) return reduce(connection, *sent);
          auto request = connection.compute().sortRequest();
          sent->fill(request.initInput());
          writeSortOptions(request.initOptions(), sorting->settings);
          return request.send().getValue();
        });
  }

  Repeat repeat() const override { return isStreamed(computation) ? Repeat::NEVER : Repeat::YES; }

  static bool isStreamed(const Computation& computation) {
    if (auto sorting = std::get_if<Sorting>(&computation)) return std::holds_alternative<StreamedInput>(sorting->input);
    auto reducing = std::get_if<Reducing>(&computation);
    return reducing != nullptr && std::holds_alternative<StreamedInput>(reducing->input);
  }

 private:
  const Computation computation;

  schema::Value::Client reduce(Connection& connection, SentInput& sent) {
    auto request = connection.compute().reduceRequest();
    sent.fill(request.initInput());
    request.setOperation(schema::Reduction(std::get<Reducing>(computation).reduction));
    return request.send().getValue();
  }
};

class JobOrigin final : public ValueOrigin {
 public:
  explicit JobOrigin(std::string id) : id(std::move(id)) {}

  kj::Promise<Result<schema::Value::Client>> start(Connection& connection) override {
    auto find = connection.compute().findRequest();
    find.setId(id.c_str());
    return Result<schema::Value::Client>(find.send().getJob().resultRequest().send().getValue());
  }
  Repeat repeat() const override { return Repeat::YES; }

 private:
  const std::string id;
};

Error brokenResult(const char* what) {
  return {ErrorCode::CORRUPT, std::string("the server answers ") + what + ", which does not fit", {}};
}

constexpr auto BETWEEN_REPORTS = 200 * kj::MILLISECONDS;

// Asks now and then how far the value is, until it is there.
kj::Promise<void> reportWork(Links& links, schema::Value::Client value, std::shared_ptr<OnWork> onWork) {
  return links.clock().afterDelay(BETWEEN_REPORTS).then([&links, value, onWork]() mutable {
    auto asking = value.progressRequest().send();
    return asking.then([&links, value, onWork](
                           capnp::Response<schema::Value::ProgressResults>&& response) mutable -> kj::Promise<void> {
      if (rpc::errorIn(response.getOutcome()) != nullptr) return kj::READY_NOW;
      (*onWork)(response.getDone(), response.getTotal());
      if (response.getReady()) return kj::READY_NOW;
      return reportWork(links, kj::mv(value), onWork);
    });
  });
}

// Starts the value and hands it to `use`, on each connection that is tried. `use` outlives what it answers.
template <typename T>
kj::Promise<Result<T>> withValue(Links& links, Repeat repeat, std::shared_ptr<ValueOrigin> origin,
                                 kj::Function<kj::Promise<Result<T>>(Connection&, schema::Value::Client)> use,
                                 OnWork onWork) {
  auto report = onWork ? std::make_shared<OnWork>(std::move(onWork)) : nullptr;
  auto call = [&links, origin, use = kj::mv(use), report](Connection& connection) mutable {
    return origin->start(connection)
        .then([&links, &connection, &use, report](Result<schema::Value::Client>&& value) -> kj::Promise<Result<T>> {
          if (!value.ok()) return Result<T>(std::move(value).error());
          if (report == nullptr) return use(connection, kj::mv(*value));
          // That reports fail is no error: older servers know none, and what else is wrong the call itself tells.
          auto reporting = reportWork(links, *value, report).eagerlyEvaluate([](kj::Exception&&) {});
          return use(connection, kj::mv(*value)).attach(kj::mv(reporting));
        });
  };
  return links.run<T>(repeat, kj::mv(call)).then([origin](Result<T>&& result) mutable -> Result<T> {
    bool broke = !result.ok() && result.error().code == ErrorCode::UNREACHABLE;
    if (broke && origin->repeat() == Repeat::NEVER)
      result.error().message += "; the input cannot be read a second time, so start it again";
    return kj::mv(result);
  });
}

// Gathers streamed elements: numbers in binary, texts as lines.
class ElementsConsumer final : public ByteConsumer {
 public:
  kj::Promise<Status> write(std::string_view bytes) override {
    content += bytes;
    return okStatus();
  }
  kj::Promise<Status> skip(uint64_t zeros) override {
    content.append(zeros, '\0');
    return okStatus();
  }

  Result<Elements> elements(const ValueInfo& info) const {
    if (info.type == ElementType::INT) return numbers<int64_t>(info.count);
    if (info.type == ElementType::FLOAT) return numbers<double>(info.count);
    std::vector<std::string> texts;
    std::string_view rest = content;
    while (!rest.empty()) {
      size_t end = rest.find('\n');
      texts.emplace_back(rest.substr(0, end));
      rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    }
    if (texts.size() != info.count) return brokenResult("another number of lines than it said");
    return Elements(std::move(texts));
  }

 private:
  std::string content;

  template <typename T>
  Result<Elements> numbers(uint64_t count) const {
    if (content.size() % sizeof(T) != 0 || content.size() / sizeof(T) != count)
      return brokenResult("another number of numbers than it said");
    std::vector<T> list(count);
    if (count != 0) memcpy(list.data(), content.data(), content.size());
    return Elements(std::move(list));
  }
};

// Bytes that have been taken are told to `taken`. The sink is not touched after the promise is gone.
kj::Promise<Result<ValueInfo>> streamInto(Links& links, schema::Value::Client value, ByteConsumer& sink,
                                          Encoding encoding, uint64_t& taken) {
  auto link = kj::refcounted<SinkLink>(sink, [&links, &taken](uint64_t count) {
    taken += count;
    links.progressed();
  });
  auto request = value.streamRequest();
  request.setSink(link->newSink());
  request.setEncoding(schema::Encoding(encoding));
  auto streaming = request.send().then([](StreamResponse&& response) -> Result<ValueInfo> {
    KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
      return kj::mv(*error);
    }
    return readValueInfo(response.getInfo());
  });
  auto failing = link->consumerFailed().then([](Error&& error) { return Result<ValueInfo>(kj::mv(error)); });
  auto detach = kj::defer([link = kj::mv(link)]() mutable { link->detach(); });
  return streaming.exclusiveJoin(kj::mv(failing)).attach(kj::mv(value), kj::mv(detach));
}

// What does not fit into a message comes as a stream, in the form that is quickest to take apart.
kj::Promise<Result<ComputedValue>> readLarge(Links& links, schema::Value::Client value) {
  struct State {
    ElementsConsumer consumer;
    uint64_t taken = 0;
  };
  auto state = kj::heap<State>();
  State& s = *state;
  return value.describeRequest()
      .send()
      .then([&links, &s, value](
                capnp::Response<schema::Value::DescribeResults>&& response) mutable -> kj::Promise<Result<ValueInfo>> {
        KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
          return Result<ValueInfo>(kj::mv(*error));
        }
        bool isText = ElementType(response.getInfo().getType()) == ElementType::TEXT;
        return streamInto(links, kj::mv(value), s.consumer, isText ? Encoding::LINES : Encoding::BINARY, s.taken);
      })
      .then([&s](Result<ValueInfo>&& info) -> Result<ComputedValue> {
        if (!info.ok()) return std::move(info).error();
        Result<Elements> elements = s.consumer.elements(*info);
        if (!elements.ok()) return std::move(elements).error();
        return ComputedValue{*info, std::move(*elements)};
      })
      .attach(kj::mv(state));
}

}  // namespace

std::shared_ptr<ValueOrigin> originOf(Computation computation) {
  return std::make_shared<ComputationOrigin>(std::move(computation));
}

std::shared_ptr<ValueOrigin> originOfJob(std::string jobId) { return std::make_shared<JobOrigin>(std::move(jobId)); }

kj::Promise<Result<ComputedValue>> readValue(Links& links, std::shared_ptr<ValueOrigin> origin, OnWork onWork) {
  Repeat repeat = origin->repeat();
  auto use = [&links](Connection&, schema::Value::Client value) {
    auto reading = value.readRequest().send();
    return reading.then([&links, value](ReadResponse&& response) mutable -> kj::Promise<Result<ComputedValue>> {
      KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
        if (error->code == ErrorCode::TOO_LARGE) return readLarge(links, kj::mv(value));
        return Result<ComputedValue>(kj::mv(*error));
      }
      ComputedValue computed{readValueInfo(response.getInfo()), readElements(response.getElements())};
      return Result<ComputedValue>(std::move(computed));
    });
  };
  return withValue<ComputedValue>(links, repeat, std::move(origin), kj::mv(use), std::move(onWork));
}

kj::Promise<Result<Number>> computeNumber(Links& links, std::shared_ptr<ValueOrigin> origin, OnWork onWork) {
  return readValue(links, std::move(origin), std::move(onWork))
      .then([](Result<ComputedValue>&& value) -> Result<Number> {
        if (!value.ok()) return std::move(value).error();
        auto ints = std::get_if<std::vector<int64_t>>(&value->elements);
        if (ints != nullptr && ints->size() == 1) return Number(ints->front());
        auto floats = std::get_if<std::vector<double>>(&value->elements);
        if (floats != nullptr && floats->size() == 1) return Number(floats->front());
        return brokenResult("no number");
      });
}

namespace {

// Streams once the value is described; what was computed by then is not computed a second time.
kj::Promise<Result<ValueInfo>> describeAndStream(Links& links, schema::Value::Client value, ByteConsumer& sink,
                                                 Encoding encoding, uint64_t& taken,
                                                 const std::function<void(const ValueInfo&)>& onInfo) {
  auto describing = value.describeRequest().send();
  return describing.then(
      [&links, value, &sink, encoding, &taken,
       &onInfo](capnp::Response<schema::Value::DescribeResults>&& response) mutable -> kj::Promise<Result<ValueInfo>> {
        KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
          return Result<ValueInfo>(kj::mv(*error));
        }
        onInfo(readValueInfo(response.getInfo()));
        return streamInto(links, kj::mv(value), sink, encoding, taken);
      });
}

}  // namespace

kj::Promise<Result<ValueInfo>> streamValue(Links& links, std::shared_ptr<ValueOrigin> origin, ByteConsumer& sink,
                                           Encoding encoding, std::function<void(const ValueInfo&)> onInfo,
                                           OnWork onWork) {
  Repeat repeat = origin->repeat();
  struct State {
    uint64_t taken = 0;
    bool described = false;
    std::function<void(const ValueInfo&)> onInfo;
  };
  auto state = std::make_shared<State>();
  if (onInfo) {
    state->onInfo = [s = state.get(), onInfo = std::move(onInfo)](const ValueInfo& info) {
      if (!s->described) onInfo(info);
      s->described = true;
    };
  }
  auto use = [&links, &sink, encoding, state](Connection&,
                                              schema::Value::Client value) -> kj::Promise<Result<ValueInfo>> {
    if (state->taken != 0) {
      Error error{ErrorCode::UNREACHABLE, "the connection broke in the middle of the result; ask for it again", {}};
      return Result<ValueInfo>(kj::mv(error));
    }
    if (state->onInfo) return describeAndStream(links, kj::mv(value), sink, encoding, state->taken, state->onInfo);
    return streamInto(links, kj::mv(value), sink, encoding, state->taken);
  };
  return withValue<ValueInfo>(links, repeat, std::move(origin), kj::mv(use), std::move(onWork));
}

kj::Promise<Result<Entry>> saveValue(Links& links, std::shared_ptr<ValueOrigin> origin, std::string path,
                                     UploadSettings settings, Encoding encoding, OnWork onWork) {
  Repeat repeat = origin->repeat();
  // Where something particular is expected, the first try may have made it untrue.
  if (repeat == Repeat::YES && settings.expectation.kind != Expectation::Kind::ANY) repeat = Repeat::NO;
  auto use = [path = std::move(path), settings = std::move(settings), encoding](Connection& connection,
                                                                                schema::Value::Client value) {
    auto create = connection.fileStore().createRequest();
    create.setPath(rpc::asData(path));
    writeUploadOptions(create.initOptions(), settings);
    auto request = value.saveRequest();
    request.setUpload(create.send().getUpload());
    request.setEncoding(schema::Encoding(encoding));
    return request.send().then(
        [](capnp::Response<schema::Value::SaveResults>&& response) { return entryIn(response); });
  };
  return withValue<Entry>(links, repeat, std::move(origin), kj::mv(use), std::move(onWork));
}

}  // namespace capstan::client
