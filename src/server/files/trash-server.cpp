#include <capstan/server/files/trash-server.h>

#include <algorithm>

#include <capnp/message.h>

#include <capstan/base/path.h>
#include <capstan/base/text.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/files/file-store.h>
#include <capstan/storage/mutation.h>
#include <capstan/storage/run.h>
#include <capstan/storage/trash.h>

namespace capstan::server::files {

namespace {

constexpr uint32_t MAX_RUNS = 1000;  // in one answer
constexpr size_t MAX_FAILURES = 1000;

std::string textOf(capnp::Data::Reader data) { return std::string(rpc::asView(data)); }

template <typename Context>
kj::Promise<void> fail(Context& context, const Error& error) {
  rpc::setError(context.getResults().initOutcome(), error);
  return kj::READY_NOW;
}

void write(schema::Run::Builder to, const RunInfo& run) {
  to.setId(rpc::asData(run.id));
  to.setLabel(run.label.c_str());
  to.setBegan(run.began);
  to.setEnded(run.ended);
  to.setClient(run.client.c_str());
  to.setCreated(run.created);
  to.setReplaced(run.replaced);
  to.setRemoved(run.removed);
  to.setMoved(run.moved);
  to.setBytes(run.bytes);
  to.setCanUndo(run.canUndo);
  if (!run.undoneBy.empty()) to.setUndoneBy(rpc::asData(run.undoneBy));
}

void writeError(schema::Error::Builder to, const Error& error) {
  capnp::MallocMessageBuilder message;
  auto outcome = message.initRoot<schema::Outcome>();
  rpc::setError(outcome, error);
  auto from = outcome.asReader().getError();
  to.setCode(from.getCode());
  to.setMessage(from.getMessage());
  to.setPath(from.getPath());
}

// An undo on its way: under which run, and by what.
struct Undo {
  std::shared_ptr<Run> under;
  std::vector<std::unique_ptr<Mutation>> steps;
};

Result<Undo> prepareUndo(const View& view, const std::string& run, const std::string& client) {
  std::string label = "undo of " + toHex(run).substr(0, 8);
  auto under = view.begin({}, label, client);
  if (!under.ok()) return under.error();
  auto steps = view.undo(run, *under);
  if (!steps.ok()) return steps.error();
  return Undo{std::move(*under), std::move(*steps)};
}

template <typename Results>
void answerUndo(Results&& answer, const std::string& under, const std::vector<Result<Entry>>& results) {
  std::vector<const Error*> failures;
  size_t failed = 0;
  for (auto& result : results) {
    if (result.ok() || ++failed > MAX_FAILURES) continue;
    failures.push_back(&result.error());
  }
  answer.setRun(rpc::asData(under));
  answer.setUndone(results.size() - failed);
  answer.setFailed(failed);
  auto list = answer.initFailures(uint(failures.size()));
  for (uint i = 0; i < list.size(); ++i) writeError(list[i], *failures[i]);
}

}  // namespace

TrashServer::TrashServer(FolderState& folder, std::shared_ptr<const View> view, kj::Own<Access> accessParam)
    : Guarded(kj::mv(accessParam)), folder(folder), view(std::move(view)), scope(&access->connection()) {}

kj::Promise<void> TrashServer::runs(RunsContext context) {
  auto params = context.getParams();
  std::string before = textOf(params.getBefore());
  size_t max = params.getMaxRuns() == 0 ? MAX_RUNS : std::min(params.getMaxRuns(), MAX_RUNS);
  context.releaseParams();
  return view->run(*scope, [view = view]() { return view->runs(); })
      .then([context, before, max](Result<std::vector<RunInfo>> all) mutable {
        auto results = context.getResults();
        if (!all.ok()) return rpc::setError(results.initOutcome(), all.error());
        auto is = [&](const RunInfo& run) { return run.id == before; };
        auto begin = before.empty() ? all->begin() : std::find_if(all->begin(), all->end(), is);
        if (!before.empty() && begin != all->end()) ++begin;
        size_t count = std::min(max, size_t(all->end() - begin));
        auto list = results.initRuns(uint(count));
        for (uint i = 0; i < count; ++i) write(list[i], begin[i]);
        results.setAtEnd(begin + ptrdiff_t(count) == all->end());
      });
}

kj::Promise<void> TrashServer::list(ListContext context) {
  auto params = context.getParams();
  std::string run = textOf(params.getRun()), path = textOf(params.getPath()), cursor = textOf(params.getCursor());
  uint32_t most = folder.options.listEntries;
  size_t max = params.getMaxEntries() == 0 ? most : std::min(params.getMaxEntries(), most);
  context.releaseParams();
  return folder.run(*scope, [view = view, run, path, cursor, max]() { return view->listTrash(run, path, cursor, max); })
      .then([context](Result<Trash::Page> page) mutable {
        auto results = context.getResults();
        if (!page.ok()) return rpc::setError(results.initOutcome(), page.error());
        auto items = results.initItems(uint(page->items.size()));
        for (uint i = 0; i < items.size(); ++i) {
          items[i].setRun(rpc::asData(page->items[i].run));
          rpc::write(items[i].initEntry(), page->items[i].entry);
          items[i].setDisplaced(page->items[i].displaced);
        }
        results.setCursor(rpc::asData(page->cursor));
        results.setAtEnd(page->atEnd);
      });
}

kj::Promise<void> TrashServer::restore(RestoreContext context) {
  if (scope->shuttingDown) return fail(context, shuttingDownError());
  auto params = context.getParams();
  std::string run = textOf(params.getRun()), path = textOf(params.getPath());
  std::string to = params.hasTo() && params.getTo().size() > 0 ? textOf(params.getTo()) : path;
  context.releaseParams();
  auto ticket = view->takeTicket(*scope);
  return folder.run(*scope, [view = view, run, path, to]() { return view->restore(run, path, to); })
      .then([view = view, ticket = kj::mv(ticket)](
                Result<std::unique_ptr<Mutation>> mutation) mutable -> kj::Promise<Result<Entry>> {
        if (!mutation.ok()) return Result<Entry>(mutation.error());
        return view->submit(kj::mv(ticket), std::move(*mutation));
      })
      .then([context](Result<Entry> entry) mutable {
        auto results = context.getResults();
        if (!entry.ok()) return rpc::setError(results.initOutcome(), entry.error());
        rpc::write(results.initEntry(), *entry);
      });
}

kj::Promise<void> TrashServer::undo(UndoContext context) {
  if (scope->shuttingDown) return fail(context, shuttingDownError());
  std::string run = textOf(context.getParams().getRun());
  context.releaseParams();
  auto ticket = view->takeTicket(*scope);
  return view->run(*scope, [view = view, run, client = scope->client]() { return prepareUndo(*view, run, client); })
      .then([view = view, context, ticket = kj::mv(ticket)](Result<Undo> undo) mutable -> kj::Promise<void> {
        if (!undo.ok()) return fail(context, undo.error());
        auto under = undo->under->id();
        return view->submitAll(kj::mv(ticket), std::move(undo->steps), std::move(undo->under))
            .then([context, under](std::vector<Result<Entry>> results) mutable {
              answerUndo(context.getResults(), under, results);
            });
      });
}

kj::Promise<void> TrashServer::empty(EmptyContext context) {
  uint64_t olderThan = context.getParams().getOlderThan();
  return view->run(*scope, [view = view, olderThan]() { return view->emptyTrash(olderThan); })
      .then([context](Result<uint64_t> freed) mutable {
        auto results = context.getResults();
        if (!freed.ok()) return rpc::setError(results.initOutcome(), freed.error());
        results.setFreed(*freed);
      });
}

}  // namespace capstan::server::files
