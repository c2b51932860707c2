// FileStore's batches, and the way to the trash.
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/files/batch.h>
#include <capstan/server/files/file-store.h>
#include <capstan/server/files/trash-server.h>
#include <capstan/storage/trash.h>

namespace capstan::server::files {

namespace {

constexpr size_t MAX_LABEL_CHARACTERS = 200;
constexpr size_t MAX_UTF8_BYTES = 4;

}  // namespace

kj::Promise<void> FileStoreServer::begin(BeginContext context) {
  auto options = context.getParams().getOptions();
  auto refuse = [](BeginContext& context, const Error& error) {
    auto results = context.getResults();
    rpc::setError(results.initOutcome(), error);
    results.setBatch(rpc::failed<schema::Batch>(error));
  };
  kj::Maybe<Error> refusal;
  if (scope->shuttingDown) refusal = shuttingDownError();
  if (options.getLabel().size() > MAX_LABEL_CHARACTERS * MAX_UTF8_BYTES) {
    refusal = Error{ErrorCode::INVALID_ARGUMENT, "the label of a run has at most 200 characters", {}};
  }
  KJ_IF_MAYBE (error, refusal) {
    refuse(context, *error);
    return kj::READY_NOW;
  }
  auto slot = Slot::take(kj::addRef(*access), Resource::BATCHES);
  if (!slot.ok()) {
    refuse(context, slot.error());
    return kj::READY_NOW;
  }
  std::string id(rpc::asView(options.getRun())), label = options.getLabel().cStr();
  context.releaseParams();
  return view
      ->run(*scope, [view = view, id = std::move(id), label = std::move(label),
                     client = scope->client]() { return view->begin(id, label, client); })
      .then([&folder = folder, view = view, refuse, context,
             slot = BatchSlot(std::move(*slot))](Result<std::shared_ptr<Run>> run) mutable {
        if (!run.ok()) return refuse(context, run.error());
        auto results = context.getResults();
        results.setRun(rpc::asData((*run)->id()));
        results.setBatch(newGuarded<BatchServer>(folder, view, kj::mv(slot), std::move(*run)));
      });
}

kj::Promise<void> FileStoreServer::trash(TrashContext context) {
  context.getResults().setTrash(newGuarded<TrashServer>(folder, view, kj::addRef(*access)));
  return kj::READY_NOW;
}

}  // namespace capstan::server::files
