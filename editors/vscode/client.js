// Starts the language server and gives it specs: .mot files, and the YAML files that the settings name.
const vscode = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

async function activate() {
  const settings = vscode.workspace.getConfiguration("motc");
  const [command, ...args] = settings.get("command");
  const yaml = settings.get("yaml");
  const documentSelector = [{ language: "mot" }];
  if (yaml) documentSelector.push({ language: "yaml", pattern: yaml });
  client = new LanguageClient("motc", "motc", { command, args }, { documentSelector });
  try {
    await client.start();
  } catch (error) {
    vscode.window.showErrorMessage(
      `motc: ${command} did not start. Install it with pip install 'motc[lsp]', or say in motc.command where it is.`
    );
  }
}

function deactivate() {
  return client?.stop();
}

module.exports = { activate, deactivate };
