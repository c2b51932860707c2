#include <capstan/server/compute/take-task.h>

#include <algorithm>
#include <atomic>

#include <capstan/base/path.h>
#include <capstan/base/text.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/compute/compute-server.h>

namespace capstan::server::compute {

namespace {

// Operands of more bytes than this become files beside the journal.
constexpr size_t INLINE_BYTES = 64 << 10;
constexpr size_t COPY_BYTES = 1 << 20;
constexpr ptrdiff_t MAX_LABEL = 64;  // characters

Error invalid(std::string sentence) { return {ErrorCode::INVALID_ARGUMENT, std::move(sentence), {}}; }

// An input file that a thread makes for a task: whoever of both is the last to be done with it removes it, if nobody
// wants it any more.
struct InputOnItsWay {
  enum class State { BEING_MADE, MADE, UNWANTED };

  explicit InputOnItsWay(std::string name) : name(std::move(name)) {}

  const std::string name;
  std::atomic<State> state{State::BEING_MADE};

  bool unwanted() const { return state == State::UNWANTED; }
};

// One task on its way. Input files that were made belong to it until the task is finished.
class TaskTaker {
 public:
  explicit TaskTaker(ComputeScope& scope) : scope(scope) {}

  ~TaskTaker() {
    for (auto& file : files) {
      if (file->state.exchange(InputOnItsWay::State::UNWANTED) == InputOnItsWay::State::MADE) {
        scope.jobs.removeInput(file->name);
      }
    }
  }

  kj::Promise<Result<StoredTask>> take(schema::Task::Reader from) {
    auto operands = readKind(from);
    if (!operands.ok()) return Result<StoredTask>(operands.error());
    return takeOutput(from.getOutput())
        .then([this, operands = *operands](Status status) mutable -> kj::Promise<Status> {
          if (!status.ok()) return kj::mv(status);
          return takeOperands(operands);
        })
        .then([this](Status status) {
          if (!status.ok()) return Result<StoredTask>(status.error());
          files.clear();  // they are the task's now
          return Result<StoredTask>(std::move(task));
        });
  }

 private:
  using Operands = std::vector<schema::Operand::Reader>;

  ComputeScope& scope;
  StoredTask task;
  std::vector<std::shared_ptr<InputOnItsWay>> files;

  Result<Operands> readKind(schema::Task::Reader from) {
    auto label = from.getLabel();
    task.label.assign(label.begin(), label.size());
    if (!isUtf8(task.label)) return invalid("a job's label has to be text in UTF-8");
    auto beginsCharacter = [](char byte) { return (uint8_t(byte) & 0xC0) != 0x80; };
    if (std::count_if(task.label.begin(), task.label.end(), beginsCharacter) > MAX_LABEL) {
      return invalid("a job's label has at most 64 characters");
    }
    switch (from.which()) {
      case schema::Task::ADD: {
        task.kind = JobKind::ADD;
        auto list = from.getAdd();
        if (list.size() < 2) return invalid("add takes two or more numbers");
        if (list.size() > MAX_OPERANDS) {
          return Error{
              ErrorCode::LIMIT,
              "an addition has at most " + std::to_string(MAX_OPERANDS) + " operands; submit the sum of a list instead",
              {}};
        }
        Operands operands;
        for (auto operand : list) operands.push_back(operand);
        return operands;
      }
      case schema::Task::SORT: {
        task.kind = JobKind::SORT;
        auto options = readSortOptions(from.getSort().getOptions(), scope.context.limits.sortMemory);
        if (!options.ok()) return options.error();
        task.sort = *options;
        return Operands{from.getSort().getInput()};
      }
      case schema::Task::REDUCE: {
        auto reduction = readReduction(from.getReduce().getOperation());
        if (!reduction.ok()) return reduction.error();
        constexpr JobKind KINDS[] = {JobKind::UNSET, JobKind::SUM, JobKind::MIN, JobKind::MAX, JobKind::COUNT};
        task.kind = KINDS[static_cast<size_t>(*reduction)];
        return Operands{from.getReduce().getReduced()};
      }
    }
    return invalid("the server does not know tasks of this kind");
  }

  kj::Promise<Status> takeOutput(schema::Task::Output::Reader output) {
    if (!output.isFile()) return okStatus();
    auto file = output.getFile();
    auto options = file.getOptions();
    auto attributes = rpc::read(options.getAttributes());
    if (!attributes.ok()) return Status(attributes.error());
    if (options.hasResumeKey()) return Status(invalid("what a job stores cannot be resumed; leave the resume key out"));
    if (!file.hasStore()) return Status(invalid("say in which tree the job is to store its result"));
    StoredOutput to{std::string(rpc::asView(file.getPath())), rpc::read(options.getExpectation()), *attributes,
                    options.getMakeParents(), static_cast<Encoding>(file.getEncoding())};
    if (to.expectation.kind == Expectation::Kind::IDENTITY)
      return Status(invalid("a job's result can expect a version or nothing at its path, not an identity"));
    if (to.encoding > Encoding::BINARY) return Status(invalid("there is no such encoding; use lines or binary"));
    auto valid = validatePath(to.path);
    if (!valid.ok()) return kj::mv(valid);
    if (to.path.empty()) return Status(errorAt(ErrorCode::IS_DIRECTORY, to.path, "the result needs a file name"));
    return scope.context.folder.localTree(*scope.connection, file.getStore())
        .then([this, to = std::move(to)](kj::Maybe<kj::Own<Access>> tree) mutable -> Status {
          KJ_IF_MAYBE (found, tree) {
            if (auto ended = (*found)->lease->ended()) return *ended;
            if ((*found)->grant().id != scope.access->grant().id) {
              return errorAt(ErrorCode::DENIED, to.path, "a job cannot store its result as ",
                             ": it stores in trees of the login that it is submitted with, and in no others");
            }
            if (!(*found)->rights.write) {
              return errorAt(ErrorCode::DENIED, to.path, "a job cannot store its result as ",
                             ": the tree was given for reading only; ask whoever gave it to you for more");
            }
            to.top = (*found)->top;
            task.output = std::move(to);
            return okStatus();
          }
          return invalid("a job can store its result on its own server only");
        });
  }

  kj::Promise<Status> takeOperands(const Operands& operands) {
    auto taken = kj::heapArrayBuilder<kj::Promise<Result<StoredOperand>>>(operands.size());
    for (auto& operand : operands) {
      taken.add(task.kind == JobKind::ADD ? takeNumber(operand) : takeInput(operand));
    }
    return kj::joinPromises(taken.finish()).then([this](kj::Array<Result<StoredOperand>> all) -> Status {
      for (auto& each : all) {
        if (!each.ok()) return each.error();
        task.operands.push_back(std::move(*each));
      }
      return okStatus();
    });
  }

  kj::Promise<Result<StoredOperand>> takeNumber(schema::Operand::Reader operand) {
    return resolveNumber(scope, operand).then([](Result<Number> number) -> Result<StoredOperand> {
      if (!number.ok()) return number.error();
      return StoredOperand(*number);
    });
  }

  kj::Promise<Result<StoredOperand>> takeInput(schema::Operand::Reader operand) {
    return resolveInput(scope, operand).then([this](Result<Input> input) -> kj::Promise<Result<StoredOperand>> {
      if (!input.ok()) return Result<StoredOperand>(input.error());
      if (task.kind == JobKind::SORT) {
        auto fits = checkSort(typeOf(*input), encodingOf(*input), task.sort);
        if (!fits.ok()) return Result<StoredOperand>(fits.error());
      }
      return keep(std::move(*input));
    });
  }

  kj::Promise<Result<StoredOperand>> keep(Input input) {
    auto& threads = scope.context.threads;
    auto* file = std::get_if<FileInput>(&input);
    // One of another login's is not this grant's to be opened again, when the other may have ended: it is copied.
    bool isOwn = file != nullptr && file->file.grant != nullptr && file->file.grant->id == scope.access->grant().id;
    if (isOwn) {
      return threads.quick.run([&folder = scope.context.folder, file = *file]() -> Result<StoredOperand> {
        auto version = folder.versionOf(file.file);
        if (!version.ok()) return version.error();
        return StoredOperand(ServedInput{file.file.path, std::move(*version), file.type, file.encoding, file.file.top});
      });
    }
    uint64_t size = sizeOf(input);
    std::shared_ptr<InputOnItsWay> made;
    if (size > INLINE_BYTES) {
      made = std::make_shared<InputOnItsWay>(scope.jobs.newInputName());
      files.push_back(made);
    }
    return (size <= QUICK_BYTES ? threads.quick : threads.bulk)
        .run([&spool = scope.context.spool, account = scope.account, input = std::move(input), made]() {
          return made == nullptr ? readInline(input, spool, account) : makeFile(input, spool, account, *made);
        });
  }

  static Result<StoredOperand> makeFile(const Input& input, const Spool& spool,
                                        const std::shared_ptr<SpoolAccount>& account, InputOnItsWay& file) {
    auto made = copyToFile(input, spool, account, file);
    if (file.state.exchange(InputOnItsWay::State::MADE) == InputOnItsWay::State::UNWANTED) {
      (void)spool.removeFile(file.name);  // if it stays the next server to start removes it
    }
    return made;
  }

  static Result<StoredOperand> readInline(const Input& input, const Spool& spool,
                                          const std::shared_ptr<SpoolAccount>& account) {
    InlineContent content{typeOf(input), encodingOf(input), {}};
    auto status = forEachBlock(input, spool, account, [&content](std::string_view bytes) {
      content.bytes += bytes;
      return okStatus();
    });
    if (!status.ok()) return status.error();
    return StoredOperand(std::move(content));
  }

  static Result<StoredOperand> copyToFile(const Input& input, const Spool& spool,
                                          const std::shared_ptr<SpoolAccount>& account, const InputOnItsWay& to) {
    auto file = spool.newFile(to.name, account);
    if (!file.ok()) return file.error();
    ContentWriter writer(typeOf(input), encodingOf(input), std::move(*file));
    auto status = forEachBlock(input, spool, account, [&](std::string_view bytes) -> Status {
      if (to.unwanted()) return cancelledError();
      return writer.append(bytes);
    });
    if (!status.ok()) return status.error();
    auto content = writer.finish(false, true);
    if (!content.ok()) return content.error();
    auto flushed = spool.flushFolder();
    if (!flushed.ok()) return flushed.error();
    return StoredOperand(InputFile{to.name, (*content)->info()});
  }

  template <typename Take>
  static Status forEachBlock(const Input& input, const Spool& spool, const std::shared_ptr<SpoolAccount>& account,
                             Take take) {
    auto source = openInput(input, spool, account);
    if (!source.ok()) return source.error();
    std::string block(COPY_BYTES, '\0');
    while (true) {
      auto got = (*source)->read(block.data(), block.size());
      if (!got.ok()) return got.error();
      if (*got == 0) return okStatus();
      auto status = take(std::string_view(block.data(), *got));
      if (!status.ok()) return status;
    }
  }
};

}  // namespace

kj::Promise<Result<StoredTask>> takeTask(ComputeScope& scope, schema::Task::Reader task) {
  auto taker = kj::heap<TaskTaker>(scope);
  auto promise = taker->take(task);
  return promise.attach(kj::mv(taker));
}

}  // namespace capstan::server::compute
