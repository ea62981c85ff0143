// Reads a folder that `miniclip export` wrote, as its users do: node consumers.mjs READER FOLDER < inputs.json
// READER is onnxruntime-web or transformers.js, found in $MINICLIP_NODE_MODULES. Prints {name of an output: numbers}.
import { readFileSync, existsSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [reader, folder] = process.argv.slice(2);
const inputs = JSON.parse(readFileSync(0, "utf8"));
const packages = createRequire(path.join(process.env.MINICLIP_NODE_MODULES, "_"));
const load = (name) => import(pathToFileURL(packages.resolve(name)));
const outputs = {};
const keep = (prefix, found) => {
  for (const [name, { data }] of Object.entries(found)) outputs[`${prefix}.${name}`] = Array.from(data);
};

if (reader === "onnxruntime-web") {
  const ort = (await load("onnxruntime-web")).default;
  ort.env.wasm.numThreads = 1;
  const tensors = {
    pixel_values: () => new ort.Tensor("float32", inputs.pixel_values.flat(3), dims(inputs.pixel_values)),
    input_ids: () => integers(inputs.input_ids),
    attention_mask: () => integers(inputs.attention_mask),
  };
  for (const name of inputs.files) {
    const file = path.join(folder, "onnx", `${name}.onnx`);
    const externalData = existsSync(`${file}_data`)
      ? [{ path: path.basename(`${file}_data`), data: new Uint8Array(readFileSync(`${file}_data`)) }]
      : undefined;
    const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(file)), { externalData });
    const feeds = Object.fromEntries(session.inputNames.map((input) => [input, tensors[input]()]));
    keep(name, await session.run(feeds));
  }

  function integers(rows) {
    return new ort.Tensor("int64", BigInt64Array.from(rows.flat(), BigInt), dims(rows));
  }

  function dims(array) {
    return Array.isArray(array) ? [array.length, ...dims(array[0])] : [];
  }
} else {
  const hf = await load("@huggingface/transformers");
  hf.env.allowRemoteModels = false;
  hf.env.localModelPath = path.dirname(folder);
  const name = path.basename(folder);
  const tokenizer = await hf.AutoTokenizer.from_pretrained(name);
  const processor = await hf.AutoProcessor.from_pretrained(name);
  const picture = await hf.RawImage.read(inputs.picture);
  const texts = tokenizer(inputs.texts, { padding: true, truncation: true });
  const pictures = await processor(picture);
  keep("tokens", { input_ids: { data: Array.from(texts.input_ids.data, Number) } });
  keep("pixels", { pixel_values: pictures.pixel_values });
  keep("text_model", await (await hf.CLIPTextModelWithProjection.from_pretrained(name)).forward(texts));
  keep("vision_model", await (await hf.CLIPVisionModelWithProjection.from_pretrained(name)).forward(pictures));
  keep("model", await (await hf.CLIPModel.from_pretrained(name)).forward({ ...texts, ...pictures }));
  const classify = await hf.pipeline("zero-shot-image-classification", name);
  outputs.classes = await classify(picture, inputs.texts, { hypothesis_template: "{}" });
}
process.stdout.write(JSON.stringify(outputs), () => process.exit(0)); // without waiting for a runtime's threads
