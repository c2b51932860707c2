#include <capstan/server/compute/compute-server.h>

#include <capstan/rpc/compat.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/compute/collect.h>
#include <capstan/server/compute/take-task.h>

namespace capstan::server::compute {

namespace {

constexpr uint32_t MAX_LISTED_JOBS = 256;  // each may have two paths and a sentence of KiBs

Error invalid(std::string sentence) { return {ErrorCode::INVALID_ARGUMENT, std::move(sentence), {}}; }

// Computes `job` of an opened input on a thread that fits its size.
template <typename Job>
kj::Promise<ContentResult> computeOn(ComputeScope& scope, Input input, std::shared_ptr<Work> work, Job job) {
  auto& threads = scope.context.threads;
  auto begin = [&scope, &threads](bool isQuick, auto run) {
    return (isQuick ? scope.budgets->quick : scope.budgets->bulk)
        .take(1)
        .then([&threads, isQuick, run = std::move(run)](Budget::Charge charge) mutable {
          return (isQuick ? threads.quick : threads.bulk).run(std::move(run)).attach(kj::mv(charge));
        });
  };
  auto run = [&spool = scope.context.spool, account = scope.account, input, work,
              job = std::move(job)]() -> ContentResult {
    auto source = openInput(input, spool, account);
    if (!source.ok()) return source.error();
    return job(**source, *work, spool, account);
  };
  // Only the size of a file has to be looked up, which may block.
  if (!std::holds_alternative<FileInput>(input)) {
    return begin(sizeOf(input) <= QUICK_BYTES, std::move(run));
  }
  return threads.quick.run([input = std::move(input)]() { return Result<uint64_t>(sizeOf(input)); })
      .then([begin, run = std::move(run)](Result<uint64_t> size) mutable -> kj::Promise<ContentResult> {
        if (!size.ok()) return ContentResult(size.error());
        return begin(*size <= QUICK_BYTES, std::move(run));
      });
}

template <typename Job>
schema::Value::Client valueOfInput(ComputeScope& scope, schema::Operand::Reader operand, Budget::Charge charge,
                                   Job job) {
  auto node = kj::refcounted<ValueNode>(kj::addRef(scope));
  // `scope` is held by the node, which owns the promise.
  node->compute(resolveInput(scope, operand, node->number())
                    .then([&scope, work = node->work(),
                           job = std::move(job)](Result<Input> input) mutable -> kj::Promise<ContentResult> {
                      if (!input.ok()) return ContentResult(input.error());
                      return computeOn(scope, std::move(*input), std::move(work), std::move(job));
                    })
                    .attach(kj::mv(charge)));
  return newValue(scope, kj::mv(node));
}

template <typename Results>
kj::Promise<void> refuseValue(Results&& results, const Error& error) {
  rpc::setError(results.initOutcome(), error);
  results.setValue(rpc::failed<schema::Value>(error));
  return kj::READY_NOW;
}

template <typename Results>
kj::Promise<void> refuseJob(Results&& results, const Error& error) {
  rpc::setError(results.initOutcome(), error);
  results.setJob(rpc::failed<schema::Job>(error));
  return kj::READY_NOW;
}

// Looked at when a call comes; the value is made, and counted, some turns later.
std::optional<Error> tooManyValues(const ComputeScope& scope) {
  return scope.access->lease->meters.refusal(Resource::VALUES);
}

Error tooManyOperands() {
  return {ErrorCode::LIMIT,
          "an addition has at most " + std::to_string(MAX_OPERANDS) +
              " operands; add the sums of parts, or take the sum of a list (reduce)",
          {}};
}

ContentResult asContent(const Result<Number>& number) {
  if (!number.ok()) return number.error();
  return Content::ofNumber(*number);
}

// Collects the operands' numbers; the first error counts.
kj::Promise<Result<std::vector<Number>>> resolveNumbers(ComputeScope& scope,
                                                        capnp::List<schema::Operand>::Reader operands,
                                                        uint64_t dependent) {
  auto promises = kj::heapArrayBuilder<kj::Promise<Result<Number>>>(operands.size());
  for (auto operand : operands) promises.add(resolveNumber(scope, operand, dependent));
  return kj::joinPromises(promises.finish()).then([](kj::Array<Result<Number>> resolved) {
    std::vector<Number> numbers;
    for (auto& each : resolved) {
      if (!each.ok()) return Result<std::vector<Number>>(each.error());
      numbers.push_back(*each);
    }
    return Result<std::vector<Number>>(std::move(numbers));
  });
}

std::optional<std::vector<Number>> literalNumbers(capnp::List<schema::Operand>::Reader operands) {
  std::vector<Number> numbers;
  for (auto operand : operands) {
    auto number = literalNumber(operand);
    if (!number) return std::nullopt;
    numbers.push_back(*number);
  }
  return numbers;
}

}  // namespace

Result<SortOptions> readSortOptions(schema::SortOptions::Reader from, uint64_t memoryLimit) {
  SortOptions options;
  options.descending = from.getDescending();
  options.unique = from.getUnique();
  options.type = static_cast<ElementType>(from.getType());
  if (options.type > ElementType::TEXT) return invalid("there is no such type of keys; use int, float or text");
  options.field = from.getField();
  auto separator = rpc::asView(from.getSeparator());
  if (separator.size() > 1) return invalid("the separator of fields has to be one byte");
  if (!separator.empty()) options.separator = separator[0];
  if (options.separator == '\n') return invalid("a newline cannot separate fields, as it ends the line");
  uint64_t memory = from.getMemory();
  options.memory = memory == 0 ? memoryLimit : std::clamp(memory, LEAST_SORT_MEMORY, memoryLimit);
  return options;
}

Result<Reduction> readReduction(schema::Reduction from) {
  if (from == schema::Reduction::UNSET || from > schema::Reduction::COUNT) {
    return invalid("say what to make of the elements: sum, min, max or count");
  }
  return static_cast<Reduction>(from);
}

ComputeServer::ComputeServer(kj::Own<ComputeScope> scopeParam, kj::Timer& timer)
    : Guarded(kj::addRef(*scopeParam->access)), scope(kj::mv(scopeParam)), timer(timer) {}

kj::Maybe<Error> ComputeServer::refusal() const {
  if (scope->connection->shuttingDown) {
    return Error{ErrorCode::SHUTTING_DOWN, "the server is shutting down and takes no new work; try again later", {}};
  }
  if (auto error = tooManyValues(*scope)) return *error;
  return nullptr;
}

template <typename Context, typename Job>
kj::Promise<void> ComputeServer::answerFromInput(Context context, schema::Operand::Reader operand, Job job) {
  // The context keeps the message with the operand, and this object.
  return scope->budgets->literals.take(literalBytes(operand))
      .then([this, context, operand, job = std::move(job)](Budget::Charge charge) mutable {
        context.getResults().setValue(valueOfInput(*scope, operand, kj::mv(charge), std::move(job)));
      });
}

kj::Promise<void> ComputeServer::add(AddContext context) {
  auto operands = context.getParams().getOperands();
  auto results = context.getResults();
  KJ_IF_MAYBE (error, refusal()) {
    return refuseValue(results, *error);
  }
  if (operands.size() < 2) return refuseValue(results, invalid("add takes two or more numbers"));
  if (operands.size() > MAX_OPERANDS) return refuseValue(results, tooManyOperands());
  if (auto literals = literalNumbers(operands)) {
    auto sum = addNumbers(*literals);
    if (!sum.ok()) return refuseValue(results, sum.error());
    results.setValue(newValue(*scope, Content::ofNumber(*sum)));
    return kj::READY_NOW;
  }
  // The context keeps the message with the operands, and this object.
  return scope->budgets->literals.take(operands.size() * WAITING_OPERAND_BYTES)
      .then([this, context, operands](Budget::Charge charge) mutable {
        auto node = kj::refcounted<ValueNode>(kj::addRef(*scope));
        node->compute(resolveNumbers(*scope, operands, node->number())
                          .then([](Result<std::vector<Number>> numbers) -> ContentResult {
                            if (!numbers.ok()) return numbers.error();
                            return asContent(addNumbers(*numbers));
                          })
                          .attach(kj::mv(charge)));
        context.getResults().setValue(newValue(*scope, kj::mv(node)));
      });
}

kj::Promise<void> ComputeServer::sort(SortContext context) {
  auto results = context.getResults();
  KJ_IF_MAYBE (error, refusal()) {
    return refuseValue(results, *error);
  }
  auto params = context.getParams();
  auto options = readSortOptions(params.getOptions(), scope->context.limits.sortMemory);
  if (!options.ok()) return refuseValue(results, options.error());
  auto job = [options = *options](Source& source, Work& work, const Spool& spool,
                                  const std::shared_ptr<SpoolAccount>& account) -> ContentResult {
    auto fits = checkSort(source.type, source.encoding, options);
    if (!fits.ok()) return fits.error();
    return sortElements(source, options, Workspace{.spool = spool, .account = account, .result = nullptr}, work);
  };
  return answerFromInput(context, params.getInput(), std::move(job));
}

kj::Promise<void> ComputeServer::reduce(ReduceContext context) {
  auto results = context.getResults();
  KJ_IF_MAYBE (error, refusal()) {
    return refuseValue(results, *error);
  }
  auto params = context.getParams();
  auto reduction = readReduction(params.getOperation());
  if (!reduction.ok()) return refuseValue(results, reduction.error());
  auto job = [reduction = *reduction](Source& source, Work& work, const Spool&, const std::shared_ptr<SpoolAccount>&) {
    return asContent(reduceElements(source, reduction, work));
  };
  return answerFromInput(context, params.getInput(), std::move(job));
}

kj::Promise<void> ComputeServer::collect(CollectContext context) {
  auto results = context.getResults();
  auto refuse = [&results](const Error& error) {
    results.setSink(rpc::failed<schema::ByteSink>(error));
    return refuseValue(results, error);
  };
  KJ_IF_MAYBE (error, refusal()) {
    return refuse(*error);
  }
  auto type = static_cast<ElementType>(context.getParams().getType());
  auto encoding = static_cast<Encoding>(context.getParams().getEncoding());
  if (encoding == Encoding::UNSET) encoding = Encoding::LINES;
  if (type == ElementType::UNSET || type > ElementType::TEXT) {
    return refuse(invalid("say what the elements are: int, float or text"));
  }
  if (encoding > Encoding::BINARY || (encoding == Encoding::BINARY && type == ElementType::TEXT)) {
    return refuse(invalid("elements of this type have no such encoding; use lines"));
  }
  auto collecting = compute::collect(*scope, type, encoding);
  auto node = kj::refcounted<ValueNode>(kj::addRef(*scope));
  node->compute(kj::mv(collecting.content));
  results.setSink(kj::mv(collecting.sink));
  results.setValue(newValue(*scope, kj::mv(node)));
  return kj::READY_NOW;
}

schema::Job::Client ComputeServer::newJob(std::shared_ptr<JobRecord> record) {
  // std::function wants something copyable.
  auto held = std::make_shared<kj::Own<ComputeScope>>(kj::addRef(*scope));
  Jobs::NewValue values;
  values.refusal = [held]() { return tooManyValues(**held); };
  values.make = [held](std::shared_ptr<const Content> content) { return newValue(**held, std::move(content)); };
  return scope->jobs.newJob(kj::addRef(*scope->access), std::move(record), timer, std::move(values));
}

kj::Promise<void> ComputeServer::submit(SubmitContext context) {
  KJ_IF_MAYBE (error, refusal()) {
    return refuseJob(context.getResults(), *error);
  }
  std::string key(rpc::asView(context.getParams().getIdempotencyKey()));
  if (key.size() > 64) {
    return refuseJob(context.getResults(), invalid("an idempotency key has at most 64 bytes"));
  }
  // The context holds the message, and the server object itself, which holds the scope, until this has resolved.
  using Submitted = Result<std::shared_ptr<JobRecord>>;
  return takeTask(*scope, context.getParams().getTask())
      .then(
          [this, key](Result<StoredTask> task) mutable -> kj::Promise<Submitted> {
            if (task.ok()) return scope->jobs.submit(scope->access->grant().id, std::move(*task), std::move(key));
            // A repetition may come when what the job was made of is there no more. What never was a task is none.
            bool wasNone = task.error().code == ErrorCode::INVALID_ARGUMENT || task.error().code == ErrorCode::LIMIT;
            auto known = wasNone ? nullptr : scope->jobs.known(scope->access->grant().id, key);
            return known == nullptr ? Submitted(task.error()) : Submitted(kj::mv(known));
          },
          [this, key](kj::Exception&& exception) -> kj::Promise<Submitted> {
            auto known = scope->jobs.known(scope->access->grant().id, key);
            if (known == nullptr) return kj::mv(exception);
            return Submitted(kj::mv(known));
          })
      .then([this, context](Result<std::shared_ptr<JobRecord>> record) mutable -> kj::Promise<void> {
        auto results = context.getResults();
        if (!record.ok()) return refuseJob(results, record.error());
        results.setId(idOf(**record).c_str());
        results.setJob(newJob(std::move(*record)));
        return kj::READY_NOW;
      });
}

kj::Promise<void> ComputeServer::find(FindContext context) {
  auto id = context.getParams().getId();
  auto record = scope->jobs.find(scope->access->grant().id, {id.begin(), id.size()});
  if (!record.ok()) return refuseJob(context.getResults(), record.error());
  context.getResults().setJob(newJob(std::move(*record)));
  return kj::READY_NOW;
}

kj::Promise<void> ComputeServer::list(ListContext context) {
  auto params = context.getParams();
  uint32_t most = params.getMaxEntries();
  if (most == 0 || most > MAX_LISTED_JOBS) most = MAX_LISTED_JOBS;
  auto page = scope->jobs.list(scope->access->grant().id, rpc::asView(params.getCursor()), most);
  auto results = context.getResults();
  auto jobs = results.initJobs(uint(page.jobs.size()));
  for (uint i = 0; i < jobs.size(); ++i) fillJobStatus(jobs[i], *page.jobs[i]);
  results.setCursor(rpc::asData(page.cursor));
  results.setAtEnd(page.atEnd);
  return kj::READY_NOW;
}

}  // namespace capstan::server::compute
