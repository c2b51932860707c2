// The Client's methods for the trash.
#include <algorithm>

#include <capstan/client/client-impl.h>
#include <capstan/rpc/entry-wire.h>

namespace capstan::client {

namespace {

// More than a sync that never rests makes in the days for which they are kept; a server that goes on for ever must not
// fill the memory.
constexpr size_t MAX_RUNS = 1'000'000;

std::string textOf(capnp::Data::Reader data) { return std::string(rpc::asView(data)); }

Run read(schema::Run::Reader from) {
  Run run;
  run.id = textOf(from.getId());
  run.label = from.getLabel().cStr();
  run.client = from.getClient().cStr();
  run.began = from.getBegan();
  run.ended = from.getEnded();
  run.created = from.getCreated();
  run.replaced = from.getReplaced();
  run.removed = from.getRemoved();
  run.moved = from.getMoved();
  run.bytes = from.getBytes();
  run.canUndo = from.getCanUndo();
  run.undoneBy = textOf(from.getUndoneBy());
  return run;
}

schema::Trash::Client trashOf(Connection& connection) {
  return connection.fileStore().trashRequest().send().getTrash();
}

struct RunPage {
  std::vector<Run> runs;
  bool atEnd = false;
};

kj::Promise<Result<RunPage>> runsAfter(Links& links, std::string before) {
  return links.run<RunPage>(Repeat::YES, [before = std::move(before)](Connection& connection) {
    auto request = trashOf(connection).runsRequest();
    request.setBefore(rpc::asData(before));
    return request.send().then([](capnp::Response<schema::Trash::RunsResults>&& response) -> Result<RunPage> {
      KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
        return kj::mv(*error);
      }
      RunPage page;
      for (auto run : response.getRuns()) page.runs.push_back(read(run));
      page.atEnd = response.getAtEnd() || page.runs.empty();
      return page;
    });
  });
}

kj::Promise<Result<std::vector<Run>>> gatherRuns(Links& links, std::vector<Run> gathered) {
  return runsAfter(links, gathered.empty() ? std::string() : gathered.back().id)
      .then([&links,
             gathered = std::move(gathered)](Result<RunPage> page) mutable -> kj::Promise<Result<std::vector<Run>>> {
        if (!page.ok()) return Result<std::vector<Run>>(page.error());
        // A run is asked for by the one before it: without an id of its own the list begins anew.
        if (!page->runs.empty() && !gathered.empty() && page->runs.front().id == gathered.front().id) {
          return Result<std::vector<Run>>(Error{ErrorCode::IO, "the server does not go on with the list of runs", {}});
        }
        if (gathered.size() + page->runs.size() > MAX_RUNS) {
          std::string sentence = "the server lists more than " + std::to_string(MAX_RUNS) + " runs";
          return Result<std::vector<Run>>(Error{ErrorCode::CORRUPT, std::move(sentence), {}});
        }
        for (auto& run : page->runs) gathered.push_back(std::move(run));
        if (page->atEnd) return Result<std::vector<Run>>(std::move(gathered));
        return gatherRuns(links, std::move(gathered));
      });
}

struct ItemPage {
  std::vector<TrashItem> items;
  std::string cursor;
  bool atEnd = false;
};

kj::Promise<Result<ItemPage>> itemsAfter(Links& links, std::string run, std::string path, std::string cursor) {
  auto call = [run = std::move(run), path = std::move(path), cursor = std::move(cursor)](Connection& connection) {
    auto request = trashOf(connection).listRequest();
    request.setRun(rpc::asData(run));
    request.setPath(rpc::asData(path));
    request.setCursor(rpc::asData(cursor));
    return request.send().then(
        [&path, &cursor](capnp::Response<schema::Trash::ListResults>&& response) -> Result<ItemPage> {
          KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
            return kj::mv(*error);
          }
          ItemPage page;
          for (auto item : response.getItems()) {
            page.items.push_back({textOf(item.getRun()), rpc::read(item.getEntry()), item.getDisplaced()});
          }
          page.cursor = textOf(response.getCursor());
          page.atEnd = response.getAtEnd();
          if (!page.atEnd && page.cursor == cursor) {
            return errorAt(ErrorCode::IO, path, "the server does not go on with the listing of ");
          }
          return page;
        });
  };
  return links.run<ItemPage>(Repeat::YES, kj::mv(call));
}

kj::Promise<Status> listItems(Links& links, std::string run, std::string path, std::string cursor,
                              std::function<void(TrashItem&&)> onItem) {
  return itemsAfter(links, run, path, std::move(cursor))
      .then([&links, run, path, onItem = std::move(onItem)](Result<ItemPage> page) mutable -> kj::Promise<Status> {
        if (!page.ok()) return Status(page.error());
        for (auto& item : page->items) onItem(std::move(item));
        if (page->atEnd) return okStatus();
        return listItems(links, std::move(run), std::move(path), std::move(page->cursor), std::move(onItem));
      });
}

}  // namespace

kj::Promise<Result<std::vector<Run>>> Client::runs() { return gatherRuns(impl->links, {}); }

kj::Promise<Status> Client::listTrash(std::string run, std::string path, std::function<void(TrashItem&&)> onItem) {
  return listItems(impl->links, std::move(run), std::move(path), {}, std::move(onItem));
}

kj::Promise<Result<UndoSummary>> Client::undo(std::string run) {
  return impl->links.run<UndoSummary>(Repeat::NO, [run = std::move(run)](Connection& connection) {
    auto request = trashOf(connection).undoRequest();
    request.setRun(rpc::asData(run));
    return request.send().then([](capnp::Response<schema::Trash::UndoResults>&& response) -> Result<UndoSummary> {
      KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
        return kj::mv(*error);
      }
      UndoSummary summary;
      summary.undone = response.getUndone();
      summary.failed = response.getFailed();
      summary.run = textOf(response.getRun());
      for (auto failure : response.getFailures()) {
        capnp::MallocMessageBuilder message;
        auto outcome = message.initRoot<schema::Outcome>();
        outcome.setError(failure);
        KJ_IF_MAYBE (error, rpc::errorIn(outcome.asReader())) {
          summary.failures.push_back(kj::mv(*error));
        }
      }
      summary.failed = std::max<uint64_t>(summary.failed, summary.failures.size());
      return summary;
    });
  });
}

kj::Promise<Result<Entry>> Client::restore(std::string run, std::string path, std::string to) {
  auto call = [run = std::move(run), path = std::move(path), to = std::move(to)](Connection& connection) {
    auto request = trashOf(connection).restoreRequest();
    request.setRun(rpc::asData(run));
    request.setPath(rpc::asData(path));
    if (!to.empty()) request.setTo(rpc::asData(to));
    return request.send().then([](capnp::Response<schema::Trash::RestoreResults>&& response) -> Result<Entry> {
      KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
        return kj::mv(*error);
      }
      return rpc::read(response.getEntry());
    });
  };
  return impl->links.run<Entry>(Repeat::NO, kj::mv(call));
}

kj::Promise<Result<uint64_t>> Client::emptyTrash(uint64_t olderThan) {
  return impl->links.run<uint64_t>(Repeat::YES, [olderThan](Connection& connection) {
    auto request = trashOf(connection).emptyRequest();
    request.setOlderThan(olderThan);
    return request.send().then([](capnp::Response<schema::Trash::EmptyResults>&& response) -> Result<uint64_t> {
      KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) {
        return kj::mv(*error);
      }
      return response.getFreed();
    });
  });
}

}  // namespace capstan::client
