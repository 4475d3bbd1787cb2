// Reads a profile with speedscope's own importer, without a browser, and prints what it found: a line with the unit and the total weight, then a line for each
// frame with its own weight, its total weight and its name, all separated by tabs. Usage: node import.js PROFILE, after `npm ci` in this folder.
//
// The package holds the page that users open: one script, whose last act is to draw itself. In the place of that act this one takes the importer out, the same
// function that the page calls when a file is dropped on it.
'use strict';

const { readFileSync, readdirSync } = require('node:fs');
const { basename, join } = require('node:path');
const vm = require('node:vm');

const release = join(__dirname, 'node_modules/speedscope/dist/release');

function one(pattern, text, what) {
  const found = text.match(pattern);
  if (!found) throw new Error(`speedscope's page has no ${what} where it was in the pinned version`);
  return found;
}

function importer() {
  const script = readdirSync(release).find((name) => /^speedscope-.*\.js$/.test(name));
  const page = readFileSync(join(release, script), 'utf8');
  // Modules are objects whose members are named in the bundle; `(INIT(),MODULE)` is how one is loaded.
  const module = one(/([\w$]+)=\{\};[\w$]+\(\1,\{importFromFileSystemDirectoryEntry/, page, 'importer')[1];
  const load = one(new RegExp(`then\\(\\(\\)=>(\\([\\w$]+\\(\\),${module.replaceAll('$', '\\$')}\\))\\)`), page, 'loading of the importer')[1];
  const [drawing] = one(/console\.log\(`speedscope v[\s\S]*\}\)\(\);\s*(\/\/#.*\s*)?$/, page, 'drawing of itself');
  // What the page looks at while it loads. Nothing of it is asked for by the importer.
  const element = { style: {}, appendChild() {}, setAttribute() {}, getContext: () => null };
  const document = { head: element, body: element, createElement: () => element, createTextNode: () => element };
  const window = { location: { hash: '' }, localStorage: {}, addEventListener() {}, devicePixelRatio: 1 };
  const quiet = { log() {}, warn() {}, error: console.error };
  const context = { window, document, console: quiet, TextDecoder, TextEncoder, performance, navigator: {}, setTimeout, clearTimeout, setInterval, clearInterval };
  context.self = context;
  context.globalThis = context;
  vm.runInNewContext(`${page.slice(0, page.length - drawing.length)} globalThis.importer = ${load}; })();`, context, { filename: script });
  return context.importer;
}

async function main(path) {
  const group = await importer().importProfileGroupFromBase64(basename(path), readFileSync(path).toString('base64'));
  if (!group) throw new Error('speedscope knows no format of this file');
  if (group.profiles.length !== 1) throw new Error(`${group.profiles.length} profiles in one file`);
  const [profile] = group.profiles;
  const lines = [[profile.getWeightUnit(), profile.getTotalWeight()]];
  profile.forEachFrame((frame) => lines.push([frame.getSelfWeight(), frame.getTotalWeight(), frame.name.replace(/\s/g, ' ')]));
  process.stdout.write(lines.map((line) => `${line.join('\t')}\n`).join(''));
}

main(process.argv[2]).catch((error) => {
  console.error(`speedscope: ${error.message}`);
  process.exit(1);
});
