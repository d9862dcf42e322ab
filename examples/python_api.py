import concepts, studio, training

library = concepts.Library("library")
base = studio.load_base("toybox")
for name, class_word in {"rex": "dog", "milo": "cat"}.items():
    library.add_concept(name, class_word, [f"pictures/{name}"])
trained = {name: training.train(library, base, name, training.Recipe(steps=120)).concept for name in ("rex", "milo")}
with studio.applied(base, {"both": studio.merged_concept(base, trained)}):
    pictures = studio.generate(base, "a photo of <rex> and <milo>", seeds=range(4))
print(studio.load_scorer().text_alignment(pictures, "a photo of a dog and a cat"))
studio.export(base, trained, "kohya", "rex-and-milo.safetensors")
