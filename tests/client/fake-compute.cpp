#include "fake-compute.h"

#include <algorithm>

#include <capstan/client/compute-wire.h>
#include <capstan/rpc/compat.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>

#include "fake-server.h"
#include "fake-value.h"

namespace capstan::client {

namespace {

kj::Promise<Computed> resolve(schema::Operand::Reader operand) {
  switch (operand.which()) {
    case schema::Operand::INT: return Computed(valueOf(Number(operand.getInt())));
    case schema::Operand::FLOAT: return Computed(valueOf(Number(operand.getFloat())));
    case schema::Operand::ELEMENTS: return Computed(valueOf(readElements(operand.getElements())));
    case schema::Operand::VALUE: {
      auto request = operand.getValue().readRequest();
      request.setCount(UINT64_MAX);
      return request.send().then([](capnp::Response<schema::Value::ReadResults>&& response) -> Computed {
        KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
          return kj::mv(*error);
        }
        return ComputedValue{readValueInfo(response.getInfo()), readElements(response.getElements())};
      });
    }
    case schema::Operand::FILE: break;
  }
  auto stored = operand.getFile();
  auto request = stored.getFile().readRequest();
  request.setCount(UINT64_MAX);
  return request.send().then([type = ElementType(stored.getType()), encoding = Encoding(stored.getEncoding())](
                                 capnp::Response<schema::File::ReadResults>&& response) -> Computed {
    KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
      return kj::mv(*error);
    }
    return decoded(rpc::asView(response.getData()), type, encoding);
  });
}

Computed sum(kj::ArrayPtr<Computed> operands) {
  int64_t ints = 0;
  double floats = 0;
  bool exact = true;
  for (auto& operand : operands) {
    if (!operand.ok()) return operand.error();
    if (!operand->info.single) return wrongOperand("a list cannot be added");
    if (auto list = std::get_if<std::vector<int64_t>>(&operand->elements)) {
      if (__builtin_add_overflow(ints, list->front(), &ints)) return wrongOperand("the sum does not fit in 64 bits");
      floats += double(list->front());
    } else {
      exact = false;
      floats += std::get<std::vector<double>>(operand->elements).front();
    }
  }
  return exact ? valueOf(Number(ints)) : valueOf(Number(floats));
}

struct Order {
  bool descending;
  bool unique;
};
Order orderOf(schema::SortOptions::Reader options) { return {options.getDescending(), options.getUnique()}; }

Computed sorted(Computed input, Order order) {
  if (!input.ok()) return input;
  std::visit(
      [&](auto& list) {
        std::sort(list.begin(), list.end());
        if (order.unique) list.erase(std::unique(list.begin(), list.end()), list.end());
        if (order.descending) std::reverse(list.begin(), list.end());
      },
      input->elements);
  return valueOf(std::move(input->elements));
}

Computed reduced(Computed input, schema::Reduction operation) {
  if (!input.ok()) return input;
  if (operation == schema::Reduction::COUNT) return valueOf(Number(int64_t(input->info.count)));
  return std::visit(
      [&](auto& list) -> Computed {
        using T = typename std::decay_t<decltype(list)>::value_type;
        if constexpr (std::is_same_v<T, std::string>) {
          return wrongOperand("text is no number");
        } else {
          T result = operation == schema::Reduction::SUM || list.empty() ? T(0) : list.front();
          for (T element : list) {
            if (operation == schema::Reduction::SUM) result += element;
            if (operation == schema::Reduction::MIN) result = std::min(result, element);
            if (operation == schema::Reduction::MAX) result = std::max(result, element);
          }
          return valueOf(Number(result));
        }
      },
      input->elements);
}

kj::Promise<Computed> computeSum(capnp::List<schema::Operand>::Reader operands) {
  auto resolving = kj::heapArrayBuilder<kj::Promise<Computed>>(operands.size());
  for (auto operand : operands) resolving.add(resolve(operand));
  return kj::joinPromises(resolving.finish()).then([](kj::Array<Computed>&& values) { return sum(values); });
}

void write(schema::JobStatus::Builder to, const JobStatus& status) {
  to.setId(status.id.c_str());
  to.setState(schema::JobState(status.state));
  to.setKind(schema::JobKind(status.kind));
  to.setLabel(status.label.c_str());
  to.setSubmitted(status.submitted);
  to.setWorkDone(status.workDone);
  to.setWorkTotal(status.workTotal);
  if (status.result) {
    to.initResult().setCount(status.result->count);
    to.getResult().setType(schema::ElementType(status.result->type));
  }
  if (status.error) {
    to.initError().setCode(schema::Error::Code(status.error->code));
    to.getError().setMessage(status.error->message.c_str());
  }
  to.setOutput(rpc::asData(status.output));
}

class FakeJobServer final : public schema::Job::Server {
 public:
  FakeJobServer(FakeTree& tree, std::shared_ptr<FakeJob> job) : tree(tree), job(std::move(job)) {}

  kj::Promise<void> status(StatusContext context) override {
    write(context.getResults().initStatus(), job->status);
    return kj::READY_NOW;
  }
  kj::Promise<void> wait(WaitContext context) override {
    ++tree.calls["Job.wait"];
    kj::Promise<void> end = KJ_ASSERT_NONNULL(job->whenEnded).addBranch();
    tree.lastWaitTimeout = context.getParams().getTimeout();
    // The clock of the test need not pass.
    if (tree.lastWaitTimeout != 0) end = kj::READY_NOW;
    context.releaseParams();
    rpc::allowCancellation(context);
    return end.then([this, context]() mutable {
      context.getResults().setEnded(job->status.hasEnded());
      write(context.getResults().initStatus(), job->status);
    });
  }
  kj::Promise<void> watch(WatchContext context) override {
    ++tree.calls["Job.watch"];
    auto report = context.getParams().getListener().reportRequest();
    write(report.initStatus(), job->status);
    context.releaseParams();
    rpc::allowCancellation(context);
    return report.send()
        .ignoreResult()
        .then([this]() { return KJ_ASSERT_NONNULL(job->whenEnded).addBranch(); })
        .then([this, context]() mutable { write(context.getResults().initStatus(), job->status); });
  }
  kj::Promise<void> cancel(CancelContext context) override {
    if (!job->status.hasEnded()) {
      job->status.state = JobState::CANCELLED;
      job->fulfiller->fulfill();
    } else if (job->status.state != JobState::CANCELLED) {
      rpc::setError(context.getResults().initOutcome(), {ErrorCode::CONFLICT, "the job has ended", {}});
    }
    write(context.getResults().initStatus(), job->status);
    return kj::READY_NOW;
  }
  kj::Promise<void> result(ResultContext context) override {
    auto ended = KJ_ASSERT_NONNULL(job->whenEnded).addBranch().then([job = job]() -> Computed {
      if (job->status.state == JobState::CANCELLED) return Error{ErrorCode::CANCELLED, "the job was cancelled", {}};
      return job->result;
    });
    context.getResults().setValue(newFakeValue(tree, kj::mv(ended)));
    return kj::READY_NOW;
  }
  kj::Promise<void> forget(ForgetContext context) override {
    auto& jobs = tree.computing.jobs;
    jobs.erase(std::remove(jobs.begin(), jobs.end(), job), jobs.end());
    context.initResults();
    return kj::READY_NOW;
  }

 private:
  FakeTree& tree;
  std::shared_ptr<FakeJob> job;
};

class FakeCompute final : public schema::Compute::Server {
 public:
  explicit FakeCompute(FakeTree& tree) : tree(tree) {}

  kj::Promise<void> add(AddContext context) override {
    context.getResults().setValue(begin("add", [&]() { return computeSum(context.getParams().getOperands()); }));
    return kj::READY_NOW;
  }

  kj::Promise<void> sort(SortContext context) override {
    context.getResults().setValue(begin("sort", [&]() {
      return resolve(context.getParams().getInput())
          .then([order = orderOf(context.getParams().getOptions())](Computed input) {
            return sorted(std::move(input), order);
          });
    }));
    return kj::READY_NOW;
  }

  kj::Promise<void> reduce(ReduceContext context) override {
    context.getResults().setValue(begin("reduce", [&]() {
      return resolve(context.getParams().getInput())
          .then([operation = context.getParams().getOperation()](Computed input) {
            return reduced(std::move(input), operation);
          });
    }));
    return kj::READY_NOW;
  }

  kj::Promise<void> collect(CollectContext context) override {
    ++tree.calls["collect"];
    auto paf = kj::newPromiseAndFulfiller<Computed>();
    auto params = context.getParams();
    auto results = context.getResults();
    results.setSink(
        newFakeCollector(tree, ElementType(params.getType()), Encoding(params.getEncoding()), kj::mv(paf.fulfiller)));
    results.setValue(newFakeValue(tree, kj::mv(paf.promise)));
    return kj::READY_NOW;
  }

  kj::Promise<void> submit(SubmitContext context) override {
    KJ_IF_MAYBE (error, enterFake(tree, "submit")) {
      rpc::setError(context.getResults().initOutcome(), *error);
      return kj::READY_NOW;
    }
    auto task = context.getParams().getTask();
    std::string key(rpc::asView(context.getParams().getIdempotencyKey()));
    for (auto& job : tree.computing.jobs) {
      if (job->key == key) {
        answer(context, job);
        return kj::READY_NOW;
      }
    }
    return computed(task).then([this, context, key](Computed result) mutable {
      auto job = newJob(context.getParams().getTask(), key, std::move(result));
      answer(context, job);
      if (tree.after) tree.after("submit");
    });
  }

  kj::Promise<void> find(FindContext context) override {
    std::string id = context.getParams().getId();
    for (auto& job : tree.computing.jobs) {
      if (job->status.id != id) continue;
      context.getResults().setJob(kj::heap<FakeJobServer>(tree, job));
      return kj::READY_NOW;
    }
    Error error{ErrorCode::NOT_FOUND, "there is no job " + id, {}};
    rpc::setError(context.getResults().initOutcome(), error);
    context.getResults().setJob(rpc::failed<schema::Job>(error));
    return kj::READY_NOW;
  }

  kj::Promise<void> list(ListContext context) override {
    auto& jobs = tree.computing.jobs;
    std::string cursor(rpc::asView(context.getParams().getCursor()));
    size_t first = cursor.empty() ? 0 : std::stoul(cursor);
    size_t count = std::min<size_t>(tree.computing.pageSize, jobs.size() - first);
    auto results = context.getResults();
    auto list = results.initJobs(count);
    for (size_t i = 0; i < count; ++i) write(list[i], jobs[jobs.size() - 1 - first - i]->status);
    results.setCursor(rpc::asData(std::to_string(first + count)));
    results.setAtEnd(first + count == jobs.size());
    return kj::READY_NOW;
  }

 private:
  FakeTree& tree;

  template <typename Start>
  schema::Value::Client begin(const char* method, Start&& start) {
    KJ_IF_MAYBE (error, enterFake(tree, method)) {
      return newFakeValue(tree, Computed(*error));
    }
    kj::Promise<Computed> computing = start();
    KJ_IF_MAYBE (held, tree.computing.valuesHeldUntil) {
      computing = held->addBranch().then([computing = kj::mv(computing)]() mutable { return kj::mv(computing); });
    }
    return newFakeValue(tree, kj::mv(computing));
  }

  static kj::Promise<Computed> computed(schema::Task::Reader task) {
    if (task.isAdd()) return computeSum(task.getAdd());
    if (task.isSort()) {
      auto sort = task.getSort();
      return resolve(sort.getInput()).then([sort](Computed input) {
        return sorted(std::move(input), orderOf(sort.getOptions()));
      });
    }
    auto reduce = task.getReduce();
    return resolve(reduce.getReduced()).then([reduce](Computed input) {
      return reduced(std::move(input), reduce.getOperation());
    });
  }

  std::shared_ptr<FakeJob> newJob(schema::Task::Reader task, const std::string& key, Computed result) {
    auto job = std::make_shared<FakeJob>();
    auto paf = kj::newPromiseAndFulfiller<void>();
    job->fulfiller = kj::mv(paf.fulfiller);
    job->whenEnded = paf.promise.fork();
    job->key = key;
    job->result = std::move(result);
    job->status.id = tree.computing.idPrefix + std::to_string(tree.computing.jobs.size() + 1);
    job->status.state = JobState::RUNNING;
    job->status.kind = task.isAdd() ? JobKind::ADD : task.isSort() ? JobKind::SORT : JobKind::SUM;
    job->status.label = task.getLabel();
    job->status.workDone = 45;
    job->status.workTotal = 100;
    if (task.getOutput().isFile()) job->status.output = rpc::asView(task.getOutput().getFile().getPath());
    tree.computing.jobs.push_back(job);
    if (!tree.computing.holdJobs) tree.computing.end(*job);
    return job;
  }

  void answer(SubmitContext& context, const std::shared_ptr<FakeJob>& job) {
    context.getResults().setId(job->status.id.c_str());
    context.getResults().setJob(kj::heap<FakeJobServer>(tree, job));
  }
};

}  // namespace

FakeJob* FakeComputing::find(const std::string& id) {
  for (auto& job : jobs) {
    if (job->status.id == id) return job.get();
  }
  return nullptr;
}

void FakeComputing::end(FakeJob& job, kj::Maybe<Error> error) {
  KJ_IF_MAYBE (e, error) {
    job.result = *e;
  }
  if (job.result.ok()) {
    job.status.state = JobState::DONE;
    job.status.result = job.result->info;
  } else {
    job.status.state = JobState::FAILED;
    job.status.error = job.result.error();
  }
  job.fulfiller->fulfill();
}

schema::Compute::Client newFakeCompute(FakeTree& tree) { return kj::heap<FakeCompute>(tree); }

}  // namespace capstan::client
